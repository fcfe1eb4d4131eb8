"""Weights as the C++ matmuls read them, made by threads while they load.

A panel is 32 outputs whose words lie side by side at each step along the inputs (`csrc/matmul.h`).
The values are to the last bit those of the layouts these stand in for.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from quire.platform.native import POINTER, SIZE, open_library
from quire.quant.layouts.int4_group import GROUP, Int4Group
from quire.quant.layouts.layout import Dense, Layout
from quire.quant.layouts.per_channel import Int8Channel

PANEL = 32


@dataclass(frozen=True, slots=True)
class Panels:
    """`weight` [panels, steps, PANEL] int32; a word holds `PER_WORD` inputs of an output."""

    weight: Tensor
    shape: tuple[int, int]

    PER_WORD: ClassVar[int]
    dtype: ClassVar[torch.dtype] = torch.bfloat16

    def tensors(self) -> dict[str, Tensor]:
        return {"weight": self.weight}

    def staging(self) -> Tensor:
        return torch.empty(self.shape, dtype=self.dtype)

    def dequantize(self) -> Tensor:
        return self.rows(torch.arange(self.shape[0]))

    def rows(self, ids: Tensor) -> Tensor:
        raise NotImplementedError

    def _words(self, ids: Tensor) -> Tensor:
        """[n, steps] int32 of those outputs."""
        return self.weight[ids // PANEL, :, ids % PANEL]


class DensePanels(Panels):
    """Two bfloat16 a word. A panel takes the place of its 32 rows: no second memory."""

    __slots__ = ()
    PER_WORD = 2

    @classmethod
    def empty(cls, outputs: int, inputs: int, dtype: torch.dtype, device: torch.device) -> Self:
        return cls(_empty_words(outputs, -(-inputs // cls.PER_WORD)), (outputs, inputs))

    def staging(self) -> Tensor:
        outputs, inputs = self.shape
        if inputs % self.PER_WORD:
            return torch.empty(self.shape, dtype=self.dtype)
        return self.weight.view(self.dtype).view(-1, inputs)[:outputs]

    def fill(self, dense: Tensor) -> None:
        _pack("pack_bf16", dense, self.weight, sizes=self.shape)

    def rows(self, ids: Tensor) -> Tensor:
        return self._words(ids).view(self.dtype)[:, : self.shape[1]]


@dataclass(frozen=True, slots=True)
class Int8Panels(Panels):
    """Four int8 plus 128 a word, times `scale` [out] float32."""

    scale: Tensor

    PER_WORD = 4

    @classmethod
    def empty(cls, outputs: int, inputs: int, dtype: torch.dtype, device: torch.device) -> Self:
        words = _empty_words(outputs, -(-inputs // cls.PER_WORD))
        return cls(words, (outputs, inputs), torch.empty(outputs))

    def tensors(self) -> dict[str, Tensor]:
        return {"weight": self.weight, "scale": self.scale}

    def fill(self, dense: Tensor) -> None:
        _pack("pack_int8", dense, self.weight, self.scale, sizes=self.shape)

    def rows(self, ids: Tensor) -> Tensor:
        integers = self._words(ids).view(torch.uint8)[:, : self.shape[1]].float() - 128
        return (integers * self.scale[ids].unsqueeze(1)).to(self.dtype)


@dataclass(frozen=True, slots=True)
class Int4Panels(Panels):
    """Eight int4 plus 8 a word, 0 to 3 in the low halves of its bytes and 4 to 7 in the high ones,
    times `scale` [panels, groups, PANEL] bfloat16."""

    scale: Tensor

    PER_WORD = 8

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

    def rows(self, ids: Tensor) -> Tensor:
        halves = self._words(ids).view(torch.uint8).unflatten(1, (-1, 4))
        integers = torch.cat((halves & 15, halves >> 4), dim=2).float() - 8
        scale = self.scale[ids // PANEL, :, ids % PANEL].float()  # [n, groups]
        groups = integers.view(len(ids), -1, GROUP) * scale.unsqueeze(2)
        return groups.flatten(1)[:, : self.shape[1]].to(self.dtype)


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


def _pack(kernel: str, dense: Tensor, *made: Tensor, sizes: tuple[int, ...]) -> None:
    library, missing = open_library()
    assert library is not None, missing
    pack = library.kernel(kernel, *[POINTER] * (1 + len(made)), *[SIZE] * len(sizes))
    dense = dense.contiguous()
    pack(dense.data_ptr(), *[tensor.data_ptr() for tensor in made], *sizes)
