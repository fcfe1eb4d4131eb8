"""What every weight layout offers, and the simplest one: the weight as it is."""

from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor


class Layout(Protocol):
    """How a linear layer holds its weight [out, in]. The tensors are made once and never move."""

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the weight it stands for, and of the activations."""

    @classmethod
    def empty(cls, outputs: int, inputs: int, dtype: torch.dtype, device: torch.device) -> Self:
        """Undefined values, to be filled."""

    def tensors(self) -> dict[str, Tensor]:
        """Everything held, by the names of the layer's parameters."""

    def staging(self) -> Tensor | None:
        """[out, in] of the layout's own memory, if it has that: where what becomes the argument of
        `fill` may be made."""

    def fill(self, dense: Tensor) -> None:
        """Convert `dense` [out, in], on the same device, into the tensors in place."""

    def dequantize(self) -> Tensor:
        """[out, in] in `dtype`: the weight that the tensors stand for."""

    def rows(self, ids: Tensor) -> Tensor:
        """[n, in] in `dtype`: those rows of the weight."""


@dataclass(frozen=True, slots=True)
class Dense:
    """`weight` [out, in] itself."""

    weight: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        return self.weight.shape[0], self.weight.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        return self.weight.dtype

    @classmethod
    def empty(cls, outputs: int, inputs: int, dtype: torch.dtype, device: torch.device) -> "Dense":
        return cls(torch.empty((outputs, inputs), dtype=dtype, device=device))

    def tensors(self) -> dict[str, Tensor]:
        return {"weight": self.weight}

    def staging(self) -> Tensor:
        return self.weight

    def fill(self, dense: Tensor) -> None:
        self.weight.copy_(dense)

    def dequantize(self) -> Tensor:
        return self.weight

    def rows(self, ids: Tensor) -> Tensor:
        return torch.embedding(self.weight, ids)
