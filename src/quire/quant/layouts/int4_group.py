"""int4 weights in groups along the inputs with a scale each: 4 bits a weight and 16 a group."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

GROUP = 64  # weights that share a scale, where Quire chooses: 4.25 bits a weight
ROWS = 256  # channels converted at once: the fp32 copies stay small beside the weight
# Scales tried for a group, as parts of the one that makes its largest weight -8: less clips that
# weight and serves the others better.
SHARES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75)
SMALLEST = 2.0**-126  # a scale below has no inverse and counts as 0


@dataclass(frozen=True, slots=True)
class Int4Group:
    """`scale` [out, groups] bfloat16 times integers in [-8, 7].

    `weight` [out, groups * group_size / 2] uint8 holds, plus 8, integer 2k in the low and 2k + 1 in
    the high half of byte k. Past the inputs, in the last group, they are 0.
    """

    weight: Tensor
    scale: Tensor
    inputs: int
    group_size: int
    dtype: torch.dtype

    @property
    def shape(self) -> tuple[int, int]:
        return self.weight.shape[0], self.inputs

    @classmethod
    def empty(
        cls, outputs: int, inputs: int, dtype: torch.dtype, device: torch.device
    ) -> "Int4Group":
        groups = -(-inputs // GROUP)
        weight = torch.empty((outputs, groups * GROUP // 2), dtype=torch.uint8, device=device)
        scale = torch.empty((outputs, groups), dtype=torch.bfloat16, device=device)
        return cls(weight, scale, inputs, GROUP, dtype)

    def tensors(self) -> dict[str, Tensor]:
        return {"weight": self.weight, "scale": self.scale}

    def staging(self) -> None:
        return None

    def fill(self, dense: Tensor) -> None:
        """Round to nearest, under the scale of `SHARES` with the least squared error."""
        parts = (t.split(ROWS) for t in (self.weight, self.scale, dense))
        padding = self.scale.shape[1] * self.group_size - self.inputs
        for weight, scale, part in zip(*parts, strict=True):
            wide = F.pad(part.float(), (0, padding)).unflatten(1, (-1, self.group_size))
            least, most = wide.aminmax(dim=2, keepdim=True)
            extreme = torch.where(-least > most, least, most)
            best = torch.full_like(extreme, float("inf"))
            chosen = torch.zeros_like(extreme)
            for share in SHARES:
                tried = (extreme * (share / -8)).bfloat16().float()
                error = _sum_by_halves((_integers(wide, tried) * tried).sub_(wide).square_())
                chosen = torch.where(error < best, tried, chosen)
                best = torch.minimum(best, error)
            scale.copy_(chosen.squeeze(2))
            integers = _integers(wide, chosen).add_(8).to(torch.uint8).flatten(1)
            weight.copy_(integers[:, 0::2] | (integers[:, 1::2] << 4))

    def dequantize(self) -> Tensor:
        integers = torch.stack((self.weight & 15, self.weight >> 4), dim=2).flatten(1)
        groups = (integers.float() - 8).unflatten(1, (-1, self.group_size))
        dense = (groups * self.scale.unsqueeze(2).float()).flatten(1)
        return dense[:, : self.inputs].to(self.dtype)

    def rows(self, ids: Tensor) -> Tensor:
        return replace(self, weight=self.weight[ids], scale=self.scale[ids]).dequantize()


def _integers(wide: Tensor, scale: Tensor) -> Tensor:
    """wide [.., groups, group_size] in steps of scale [.., groups, 1]; where that is 0, 0."""
    inverse = torch.where(scale.abs() < SMALLEST, 0.0, 1 / scale)
    return (wide * inverse).round_().clamp_(-8, 7)


def _sum_by_halves(values: Tensor) -> Tensor:
    """[.., n] -> [.., 1], n a power of 2. An order that vectors have too: fast kernels come to the
    same scales."""
    while (half := values.shape[-1] // 2) > 0:
        values = values[..., :half] + values[..., half:]
    return values
