"""Weights of one byte with a scale for each output channel: fp8 for GPUs, int8 for CPUs."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

SMALLEST = 1e-12  # a channel of zeros has this for its largest value, so that nothing divides by 0
ROWS = 1024  # channels converted at once: the fp32 copies stay small beside the weight


@dataclass(frozen=True, slots=True)
class PerChannel:
    """`weight` [out, in] in the subclass's element type times `scale` [out] float32."""

    weight: Tensor
    scale: Tensor
    dtype: torch.dtype

    ELEMENT: ClassVar[torch.dtype]
    LARGEST: ClassVar[float]  # what the largest weight of a channel becomes, with its sign

    @property
    def shape(self) -> tuple[int, int]:
        return self.weight.shape[0], self.weight.shape[1]

    @classmethod
    def empty(cls, outputs: int, inputs: int, dtype: torch.dtype, device: torch.device) -> Self:
        weight = torch.empty((outputs, inputs), dtype=cls.ELEMENT, device=device)
        return cls(weight, torch.empty(outputs, dtype=torch.float32, device=device), dtype)

    def tensors(self) -> dict[str, Tensor]:
        return {"weight": self.weight, "scale": self.scale}

    def staging(self) -> None:
        return None

    def fill(self, dense: Tensor) -> None:
        """Round to nearest."""
        parts = (t.split(ROWS) for t in (self.weight, self.scale, dense))
        for weight, scale, part in zip(*parts, strict=True):
            wide = part.float()
            scale.copy_(wide.abs().amax(dim=1).clamp_(min=SMALLEST).div_(self.LARGEST))
            scaled = wide / scale.unsqueeze(1)
            weight.copy_(scaled if self.ELEMENT.is_floating_point else scaled.round_())

    def dequantize(self) -> Tensor:
        return (self.weight.float() * self.scale.unsqueeze(1)).to(self.dtype)

    def rows(self, ids: Tensor) -> Tensor:
        return replace(self, weight=self.weight[ids], scale=self.scale[ids]).dequantize()


class Fp8Channel(PerChannel):
    """float8_e4m3fn; 448 is its largest finite value."""

    __slots__ = ()
    ELEMENT = torch.float8_e4m3fn
    LARGEST = 448.0


class Int8Channel(PerChannel):
    """int8, from -127 to 127."""

    __slots__ = ()
    ELEMENT = torch.int8
    LARGEST = 127.0
