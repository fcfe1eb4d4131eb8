"""Logits from hidden states."""

from collections.abc import Callable

import torch
from torch import Tensor

from quire.kernels.table import LinearParts
from quire.layers.parameters import Maker, Weighted
from quire.models.recipe import HeadRecipe


class Head(Weighted):
    """The weight [V, dim], the embedding's own if `tied`, and `bias` [V] or None."""

    def __init__(
        self, recipe: HeadRecipe, vocab_size: int, dim: int, tied: Weighted | None, make: Maker
    ) -> None:
        layout = (
            make.table_layout.empty(vocab_size, dim, make.dtype, make.device)
            if tied is None
            else tied.layout
        )
        super().__init__(layout, tied)
        self.bias = make.empty(vocab_size) if recipe.bias else None
        self.plain = recipe.multiplier == 1.0 and recipe.softcap is None  # only the product
        self.dtype = make.dtype if self.plain else torch.float32  # of the logits
        self._product = make.ops.linear(layout, self.bias, None)
        self._steps: list[Callable[[Tensor], Tensor]] = []
        if recipe.multiplier != 1.0:
            multiplier = recipe.multiplier
            self._steps.append(lambda logits: logits * multiplier)
        if recipe.softcap is not None:
            cap = recipe.softcap
            self._steps.append(lambda logits: torch.tanh(logits / cap) * cap)

    def parts(self) -> LinearParts:
        return LinearParts(self.layout, self.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """[n, dim] -> [n, V] in `dtype`."""
        logits = self._product(hidden)
        for step in self._steps:
            logits = step(logits.float())
        return logits
