"""Logits from hidden states."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from quire.layers.parameters import Maker
from quire.models.recipe import HeadRecipe
from quire.quant.layouts.layout import Dense


class Head(nn.Module):
    """`weight` [V, dim], the embedding's own tensor if `tied`, and `bias` [V] or None."""

    def __init__(
        self, recipe: HeadRecipe, vocab_size: int, dim: int, tied: nn.Parameter | None, make: Maker
    ) -> None:
        super().__init__()
        self.weight = make.empty(vocab_size, dim) if tied is None else tied
        self.bias = make.empty(vocab_size) if recipe.bias else None
        plain = recipe.multiplier == 1.0 and recipe.softcap is None
        self.dtype = make.dtype if plain else torch.float32  # of the logits
        self._product = make.linear(Dense(self.weight), self.bias, None)
        self._steps: list[Callable[[Tensor], Tensor]] = []
        if recipe.multiplier != 1.0:
            multiplier = recipe.multiplier
            self._steps.append(lambda logits: logits * multiplier)
        if recipe.softcap is not None:
            cap = recipe.softcap
            self._steps.append(lambda logits: torch.tanh(logits / cap) * cap)

    def forward(self, hidden: Tensor) -> Tensor:
        """[n, dim] -> [n, V] in `dtype`."""
        logits = self._product(hidden)
        for step in self._steps:
            logits = step(logits.float())
        return logits
