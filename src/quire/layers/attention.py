"""Attention over pages: project, normalise, rotate, write this step's keys and values, attend."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from quire.kernels.batch import AttentionBatch, LayerCache
from quire.kernels.table import Ops
from quire.layers.linear import Linear
from quire.layers.norm import make_norm
from quire.layers.parameters import Maker
from quire.layers.rotary import Rotary
from quire.models.recipe import AttentionRecipe

# (q [T, H, D], k [T, K, D]) -> the same, normalised
_Normalise = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
# (q, k, positions [T]) -> None, in place
_Rotate = Callable[[Tensor, Tensor, Tensor], None]


class Attention(nn.Module):
    """One layer's softmax attention. q, k and v come from one matmul, rows q over k over v."""

    def __init__(
        self, recipe: AttentionRecipe, hidden: int, ops: Ops, rotary: Rotary | None, make: Maker
    ) -> None:
        super().__init__()
        h, k, d = recipe.num_heads, recipe.num_kv_heads, recipe.head_dim
        self.qkv = Linear(make, hidden, (h + 2 * k) * d, recipe.qkv_bias)
        self.out = Linear(make, h * d, hidden, recipe.out_bias)
        self._sizes = [h * d, k * d, k * d]
        self._heads, self._kv_heads, self._head_dim = h, k, d
        self._scale, self._window, self._softcap = recipe.scale, recipe.window, recipe.softcap
        self._write_kv, self._attend = ops.write_kv, ops.attention
        self._normalise = self._make_qk_norm(recipe, ops, make)
        self._rotate: _Rotate = _no_rotation if rotary is None else rotary

    def _make_qk_norm(self, recipe: AttentionRecipe, ops: Ops, make: Maker) -> _Normalise:
        if recipe.qk_norm is None:
            return _no_norm
        h, k, d = recipe.num_heads, recipe.num_kv_heads, recipe.head_dim
        whole = recipe.qk_norm_scope == "all"
        q_norm = self.q_norm = make_norm(recipe.qk_norm, h * d if whole else d, ops, make)
        k_norm = self.k_norm = make_norm(recipe.qk_norm, k * d if whole else d, ops, make)
        if not whole:
            return lambda q, k: (q_norm(q), k_norm(k))
        return lambda q, k: (
            q_norm(q.flatten(1)).view(q.shape),
            k_norm(k.flatten(1)).view(k.shape),
        )

    def forward(
        self, x: Tensor, positions: Tensor, batch: AttentionBatch, cache: LayerCache
    ) -> Tensor:
        """x [T, E] -> [T, E]. Writes this step's keys and values into `cache`'s pages."""
        q, k, v = torch.split(self.qkv(x), self._sizes, dim=-1)
        # Views into one [T, (H + 2K) D] tensor: the stride between tokens is (H + 2K) D.
        q = q.unflatten(-1, (self._heads, self._head_dim))  # [T, H, D]
        k = k.unflatten(-1, (self._kv_heads, self._head_dim))  # [T, K, D]
        v = v.unflatten(-1, (self._kv_heads, self._head_dim))
        q, k = self._normalise(q, k)
        self._rotate(q, k, positions)
        k_pages, v_pages = cache
        self._write_kv(k, v, k_pages, v_pages, batch.slots)
        attended = self._attend(
            q, k_pages, v_pages, batch, self._scale, self._window, self._softcap
        )  # [T, H, D]
        projected: Tensor = self.out(attended.flatten(1))
        return projected


def _no_norm(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    return q, k


def _no_rotation(q: Tensor, k: Tensor, positions: Tensor) -> None:
    return None
