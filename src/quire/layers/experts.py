"""Routed experts: a softmax router picks `top_k` of the experts for each token."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from quire.kernels.table import Ops
from quire.layers.linear import Linear
from quire.layers.parameters import Maker
from quire.models.recipe import MoeRecipe


class Experts(nn.Module):
    """`gate_up` [X, 2F, E] (gate rows first) and `down` [X, E, F], one slice an expert."""

    def __init__(self, recipe: MoeRecipe, hidden: int, ops: Ops, make: Maker) -> None:
        super().__init__()
        self.router = Linear(make.dense, hidden, recipe.num_experts)
        self.gate_up = make.empty(recipe.num_experts, 2 * recipe.size, hidden)
        self.down = make.empty(recipe.num_experts, hidden, recipe.size)
        self._top_k, self._activation = recipe.top_k, recipe.activation
        self._experts = ops.experts
        self._weigh: Callable[[Tensor], Tensor] = _sum_to_one if recipe.renormalize else _keep

    def forward(self, x: Tensor) -> Tensor:
        """[T, E] -> [T, E]. The router's softmax is over all experts, in fp32."""
        shares = torch.softmax(self.router(x), dim=-1, dtype=torch.float32)  # [T, X]
        weights, ids = torch.topk(shares, self._top_k, dim=-1)  # [T, top_k]
        weights = self._weigh(weights)
        return self._experts(x, ids, weights, self.gate_up, self.down, self._activation)


def _sum_to_one(weights: Tensor) -> Tensor:
    return weights / weights.sum(dim=-1, keepdim=True)


def _keep(weights: Tensor) -> Tensor:
    return weights
