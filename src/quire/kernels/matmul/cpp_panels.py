"""Weights as the C++ matmuls read them, made by threads while they load.

A panel is 32 outputs whose words lie side by side at each step along the inputs (`csrc/matmul.h`).
The values are to the last bit those of the layouts these stand in for.
"""

import ctypes
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from quire.platform.native import POINTER, SIZE, Library, open_library
from quire.quant.layouts.int4_group import GROUP, Int4Group
from quire.quant.layouts.layout import Dense, Layout
from quire.quant.layouts.per_channel import Int8Channel

PANEL = 32


class LinearStruct(ctypes.Structure):
    """QuireLinear of csrc/quire.h."""

    _fields_ = [
        *((name, POINTER) for name in ("data", "scale", "bias")),
        *((name, SIZE) for name in ("format", "outputs", "inputs", "group")),
    ]


@dataclass(frozen=True, slots=True)
class Panels:
    """`weight` [panels, steps, PANEL] int32; a word holds `PER_WORD` inputs of an output."""

    weight: Tensor
    shape: tuple[int, int]

    PER_WORD: ClassVar[int]
    FORMAT: ClassVar[int]  # what csrc/quire.h calls it
    dtype: ClassVar[torch.dtype] = torch.bfloat16

    def tensors(self) -> dict[str, Tensor]:
        return {"weight": self.weight}

    def staging(self) -> Tensor | None:
        return None

    def dequantize(self) -> Tensor:
        return self.rows(torch.arange(self.shape[0]))

    def rows(self, ids: Tensor) -> Tensor:
        made = torch.empty((len(ids), self.shape[1]), dtype=self.dtype)
        gather = _library().kernel("gather", *[POINTER] * 3, SIZE)
        ids, described = ids.contiguous(), self.described(None)
        gather(ctypes.addressof(described), ids.data_ptr(), made.data_ptr(), len(ids))
        return made

    def described(self, bias: Tensor | None) -> LinearStruct:
        """For kernels that take a whole linear layer."""
        data, *scale = (tensor.data_ptr() for tensor in self.tensors().values())
        return LinearStruct(
            data,
            scale[0] if scale else None,
            None if bias is None else bias.data_ptr(),
            self.FORMAT,
            *self.shape,
            GROUP,
        )


class DensePanels(Panels):
    """Two bfloat16 a word. A panel takes the place of its 32 rows: no second memory."""

    __slots__ = ()
    PER_WORD, FORMAT = 2, 0

    @classmethod
    def empty(cls, outputs: int, inputs: int, dtype: torch.dtype, device: torch.device) -> Self:
        return cls(_empty_words(outputs, -(-inputs // cls.PER_WORD)), (outputs, inputs))

    def staging(self) -> Tensor | None:
        outputs, inputs = self.shape
        if inputs % self.PER_WORD:
            return None
        return self.weight.view(self.dtype).view(-1, inputs)[:outputs]

    def fill(self, dense: Tensor) -> None:
        _pack("pack_bf16", dense, self.weight, sizes=self.shape)


@dataclass(frozen=True, slots=True)
class Int8Panels(Panels):
    """Four int8 plus 128 a word, times `scale` [out] float32."""

    scale: Tensor

    PER_WORD, FORMAT = 4, 1

    @classmethod
    def empty(cls, outputs: int, inputs: int, dtype: torch.dtype, device: torch.device) -> Self:
        words = _empty_words(outputs, -(-inputs // cls.PER_WORD))
        return cls(words, (outputs, inputs), torch.empty(outputs))

    def tensors(self) -> dict[str, Tensor]:
        return {"weight": self.weight, "scale": self.scale}

    def fill(self, dense: Tensor) -> None:
        _pack("pack_int8", dense, self.weight, self.scale, sizes=self.shape)


@dataclass(frozen=True, slots=True)
class Int4Panels(Panels):
    """Eight int4 plus 8 a word, 0 to 3 in the low halves of its bytes and 4 to 7 in the high ones,
    times `scale` [panels, groups, PANEL] bfloat16."""

    scale: Tensor

    PER_WORD, FORMAT = 8, 2

    @classmethod
    def empty(cls, outputs: int, inputs: int, dtype: torch.dtype, device: torch.device) -> Self:
        groups = -(-inputs // GROUP)
        words = _empty_words(outputs, groups * GROUP // cls.PER_WORD)
        scale = torch.empty((words.shape[0], groups, PANEL), dtype=torch.bfloat16)
        return cls(words, (outputs, inputs), scale)

    def tensors(self) -> dict[str, Tensor]:
        return {"weight": self.weight, "scale": self.scale}

    def fill(self, dense: Tensor) -> None:
        _pack("pack_int4", dense, self.weight, self.scale, sizes=(*self.shape, GROUP))


def held_in_panels(layout: type[Layout], dtype: torch.dtype) -> type[Layout]:
    """The panels that stand in for a layout, where there are any."""
    panels: dict[type[Layout], type[Layout]] = {
        Dense: DensePanels,
        Int8Channel: Int8Panels,
        Int4Group: Int4Panels,
    }
    return panels.get(layout, layout) if dtype == torch.bfloat16 else layout


def _empty_words(outputs: int, steps: int) -> Tensor:
    return torch.empty((-(-outputs // PANEL), steps, PANEL), dtype=torch.int32)


def _library() -> Library:
    library, missing = open_library()
    assert library is not None, missing
    return library


def _pack(kernel: str, dense: Tensor, *made: Tensor, sizes: tuple[int, ...]) -> None:
    pack = _library().kernel(kernel, *[POINTER] * (1 + len(made)), *[SIZE] * len(sizes))
    dense = dense.contiguous()
    pack(dense.data_ptr(), *[tensor.data_ptr() for tensor in made], *sizes)
