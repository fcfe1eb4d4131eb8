"""RMSNorm and LayerNorm, alone or with the residual add that precedes them."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quire.kernels.table import LinearInput, NormParts, Ops
from quire.layers.linear import Product, computed
from quire.layers.parameters import Maker
from quire.models.recipe import NormRecipe


class RmsNorm(nn.Module):
    """x / rms(x) * (weight + offset), statistics in fp32."""

    def __init__(self, recipe: NormRecipe, size: int, ops: Ops, make: Maker) -> None:
        super().__init__()
        self.weight = make.empty(size)
        self.eps, self.offset = recipe.eps, recipe.weight_offset
        self._norm, self._add_norm = ops.rms_norm, ops.add_rms_norm

    def forward(self, x: Tensor) -> Tensor:
        """[..., E] -> [..., E]."""
        return self._norm(x, self.weight, self.eps, self.offset)

    def add(self, x: Tensor | Product, residual: Tensor) -> tuple[Tensor, Tensor]:
        """(norm(x + residual), x + residual), each [T, E]."""
        return self._add_norm(computed(x), residual, self.weight, self.eps, self.offset)

    def begin(self, x: Tensor | Product, residual: Tensor) -> tuple[Tensor | LinearInput, Tensor]:
        """As `add`, of which linear layers are to take the first."""
        if isinstance(x, Product):
            begun = x.linear.add_norm(x.x, residual, self.parts())
            if begun is not None:
                return begun, begun.total
        return self.add(x, residual)

    def parts(self) -> NormParts:
        return NormParts(self.weight, self.eps, self.offset)


class LayerNorm(nn.Module):
    """(x - mean) / std * weight + bias; weight and bias may each be absent."""

    def __init__(self, recipe: NormRecipe, size: int, make: Maker) -> None:
        super().__init__()
        self.weight = make.empty(size) if recipe.affine else None
        self.bias = make.empty(size) if recipe.affine and recipe.bias else None
        self.eps, self.shape = recipe.eps, (size,)

    def forward(self, x: Tensor) -> Tensor:
        """[..., E] -> [..., E]."""
        return F.layer_norm(x, self.shape, self.weight, self.bias, self.eps)

    def add(self, x: Tensor | Product, residual: Tensor) -> tuple[Tensor, Tensor]:
        """(norm(x + residual), x + residual), each [T, E]."""
        total = torch.add(computed(x), residual)
        return self.forward(total), total


Norm = RmsNorm | LayerNorm


def make_norm(recipe: NormRecipe, size: int, ops: Ops, make: Maker) -> Norm:
    """The norm of `recipe` over the last dimension of `size`."""
    if recipe.kind == "rms":
        return RmsNorm(recipe, size, ops, make)
    return LayerNorm(recipe, size, make)
