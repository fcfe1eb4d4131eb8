"""How layers make their parameters: uninitialised memory on the device, filled by `weights/`."""

from dataclasses import dataclass, replace

import torch
from torch import nn

from quire.kernels.table import Ops
from quire.quant.layouts.layout import Dense, Layout


@dataclass(frozen=True, slots=True)
class Maker:
    """Where parameters live and in which dtype; in which layout the weights of linear layers are,
    those of embedding and head, and those that are never quantized."""

    dtype: torch.dtype
    device: torch.device
    ops: Ops
    layout: type[Layout] = Dense
    table_layout: type[Layout] = Dense
    dense_layout: type[Layout] = Dense

    @property
    def dense(self) -> "Maker":
        """The same for layers whose weight is never quantized."""
        return replace(self, layout=self.dense_layout)

    def empty(self, *shape: int) -> nn.Parameter:
        """A parameter of `shape` with undefined values, not trained."""
        data = torch.empty(shape, dtype=self.dtype, device=self.device)
        return nn.Parameter(data, requires_grad=False)


class Weighted(nn.Module):
    """A module with a weight in `layout`, whose tensors are its parameters under their names; the
    parameters of `tied` if it has that module's weight."""

    def __init__(self, layout: Layout, tied: "Weighted | None" = None) -> None:
        super().__init__()
        self.layout = layout
        for name, tensor in layout.tensors().items():
            made = nn.Parameter(tensor, requires_grad=False)
            self.register_parameter(name, made if tied is None else tied.get_parameter(name))
