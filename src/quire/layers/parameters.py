"""How layers make their parameters: uninitialised memory on the device, filled by `weights/`."""

from dataclasses import dataclass, replace

import torch
from torch import nn

from quire.kernels.table import Linear
from quire.quant.layouts.layout import Dense, Layout


@dataclass(frozen=True, slots=True)
class Maker:
    """Where parameters live and in which dtype; the weights of linear layers, in which layout."""

    dtype: torch.dtype
    device: torch.device
    linear: Linear
    layout: type[Layout] = Dense

    @property
    def dense(self) -> "Maker":
        """The same for layers whose weight is never quantized."""
        return replace(self, layout=Dense)

    def empty(self, *shape: int) -> nn.Parameter:
        """A parameter of `shape` with undefined values, not trained."""
        data = torch.empty(shape, dtype=self.dtype, device=self.device)
        return nn.Parameter(data, requires_grad=False)
