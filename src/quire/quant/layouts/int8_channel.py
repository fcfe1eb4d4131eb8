"""int8 weights with a scale for each output channel: 1 byte a weight and 4 a channel."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

LARGEST = 127
SMALLEST = 1e-12  # a channel of zeros has this for its largest value, so that nothing divides by 0
ROWS = 1024  # channels converted at once: the fp32 copies stay small beside the weight


@dataclass(frozen=True, slots=True)
class Int8Channel:
    """`weight` [out, in] int8 times `scale` [out] float32."""

    weight: Tensor
    scale: Tensor
    dtype: torch.dtype

    @property
    def shape(self) -> tuple[int, int]:
        return self.weight.shape[0], self.weight.shape[1]

    @classmethod
    def empty(
        cls, outputs: int, inputs: int, dtype: torch.dtype, device: torch.device
    ) -> "Int8Channel":
        weight = torch.empty((outputs, inputs), dtype=torch.int8, device=device)
        return cls(weight, torch.empty(outputs, dtype=torch.float32, device=device), dtype)

    def tensors(self) -> dict[str, Tensor]:
        return {"weight": self.weight, "scale": self.scale}

    def fill(self, dense: Tensor) -> None:
        """Round to nearest; the largest weight of a channel becomes 127 or -127."""
        parts = (t.split(ROWS) for t in (self.weight, self.scale, dense))
        for weight, scale, part in zip(*parts, strict=True):
            wide = part.float()
            scale.copy_(wide.abs().amax(dim=1).clamp_(min=SMALLEST).div_(LARGEST))
            weight.copy_((wide / scale.unsqueeze(1)).round_())

    def dequantize(self) -> Tensor:
        return (self.weight.float() * self.scale.unsqueeze(1)).to(self.dtype)

    def rows(self, ids: Tensor) -> Tensor:
        return replace(self, weight=self.weight[ids], scale=self.scale[ids]).dequantize()
