"""Token embedding, with its multiplier and learned positions where the recipe has them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from quire.kernels.table import Lookup, Ops
from quire.layers.linear import Linear
from quire.layers.parameters import Maker, Weighted
from quire.models.recipe import EmbeddingRecipe
from quire.quant.layouts.layout import Dense, Layout

# (x [T, .], positions [T]) -> [T, .]
_Step = Callable[[Tensor, Tensor], Tensor]


class Table(Weighted):
    """Rows looked up by integer."""

    def __init__(
        self, make: Maker, lookup: Lookup, rows: int, dim: int, layout: type[Layout] = Dense
    ) -> None:
        super().__init__(layout.empty(rows, dim, make.dtype, make.device))
        self._rows = lookup(self.layout)

    def forward(self, ids: Tensor) -> Tensor:
        """[T] int64 -> [T, dim]."""
        return self._rows(ids)


class Embedder:
    """Token ids and positions [T] -> [T, E]. Which steps that takes is chosen here, once.

    `modules` are to become the decoder's own children, whose names its parameters carry.
    """

    def __init__(
        self, recipe: EmbeddingRecipe, vocab_size: int, hidden_size: int, ops: Ops, make: Maker
    ) -> None:
        self.table = Table(make, ops.lookup, vocab_size, recipe.dim, make.table_layout)
        self.modules: dict[str, nn.Module] = {"embedding": self.table}
        self.multiplier = multiplier = _multiplier(recipe, make.dtype)
        self._steps: list[_Step] = []
        if multiplier != 1.0:
            self._steps.append(lambda x, _: x * multiplier)
        if recipe.dim != hidden_size:
            project = self.modules["project_in"] = Linear(make.dense, recipe.dim, hidden_size)
            self._steps.append(lambda x, _: project(x))
        if recipe.num_positions is not None:
            offset = recipe.position_offset
            learned = Table(make, ops.lookup, recipe.num_positions + offset, hidden_size)
            self.modules["positions"] = learned
            self._steps.append(lambda x, positions: x + learned(positions + offset))

    @property
    def plain(self) -> bool:
        """Whether `table` and `multiplier` are all there is."""
        return len(self._steps) == (self.multiplier != 1.0)

    def __call__(self, token_ids: Tensor, positions: Tensor) -> Tensor:
        x: Tensor = self.table(token_ids)  # [T, dim]
        for step in self._steps:
            x = step(x, positions)
        return x  # [T, E]


def _multiplier(recipe: EmbeddingRecipe, dtype: torch.dtype) -> float:
    if recipe.round_multiplier:
        return float(torch.tensor(recipe.multiplier, dtype=dtype))
    return recipe.multiplier
