"""Attention over pages: project, normalise, rotate, write this step's keys and values, attend."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from quire.kernels.batch import AttentionBatch, LayerCache
from quire.kernels.table import HeadNorm, LinearInput, Ops, Rope
from quire.layers.linear import Linear, Product
from quire.layers.norm import RmsNorm, make_norm
from quire.layers.parameters import Maker
from quire.models.recipe import AttentionRecipe, NormRecipe

# (q [T, H, D], k [T, K, D]) -> the same, normalised
_Normalise = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Attention(nn.Module):
    """One layer's softmax attention. q, k and v come from one matmul, rows q over k over v."""

    def __init__(
        self, recipe: AttentionRecipe, hidden: int, ops: Ops, rope: Rope | None, make: Maker
    ) -> None:
        super().__init__()
        h, k, d = recipe.num_heads, recipe.num_kv_heads, recipe.head_dim
        self.qkv = Linear(make, hidden, (h + 2 * k) * d, recipe.qkv_bias)
        self.out = Linear(make, h * d, hidden, recipe.out_bias)
        self._sizes = [h * d, k * d, k * d]
        self._heads, self._kv_heads, self._head_dim = h, k, d
        self._scale, self._window, self._softcap = recipe.scale, recipe.window, recipe.softcap
        self._prepare, self._attend, self.rope = ops.prepare_qkv, ops.attention, rope
        self._decode = None if ops.by_parts is None else ops.by_parts.decode
        self._k_scale = self._v_scale = 1.0
        self.head_norm: HeadNorm | None = None
        self._normalise: _Normalise = _no_norm
        if recipe.qk_norm is not None:
            self._make_qk_norm(recipe, recipe.qk_norm, ops, make)

    def _make_qk_norm(
        self, recipe: AttentionRecipe, norm: NormRecipe, ops: Ops, make: Maker
    ) -> None:
        """RMSNorm of each head is part of `prepare_qkv`; other norms come before it."""
        h, k, d = recipe.num_heads, recipe.num_kv_heads, recipe.head_dim
        whole = recipe.qk_norm_scope == "all"
        q_norm = self.q_norm = make_norm(norm, h * d if whole else d, ops, make)
        k_norm = self.k_norm = make_norm(norm, k * d if whole else d, ops, make)
        if whole:
            self._normalise = lambda q, k: (
                q_norm(q.flatten(1)).view(q.shape),
                k_norm(k.flatten(1)).view(k.shape),
            )
        elif isinstance(q_norm, RmsNorm) and isinstance(k_norm, RmsNorm):
            self.head_norm = HeadNorm(q_norm.weight, k_norm.weight, norm.eps, norm.weight_offset)
        else:
            self._normalise = lambda q, k: (q_norm(q), k_norm(k))

    @property
    def plain(self) -> bool:
        """Whether there is nothing between projection and `prepare_qkv`, nor after attention."""
        return self._normalise is _no_norm and self._k_scale == self._v_scale == 1

    def scale_cache(self, k_scale: float, v_scale: float) -> None:
        """Hold keys and values divided by these from now on."""
        self._k_scale, self._v_scale = k_scale, v_scale
        self._scale *= k_scale  # of the products with keys
        if self.head_norm is not None and k_scale != 1:  # keys are divided after their norm
            q_norm, k_norm = self.q_norm, self.k_norm
            self.head_norm = None
            self._normalise = lambda q, k: (q_norm(q), k_norm(k))

    def forward(
        self,
        x: Tensor | LinearInput,
        positions: Tensor,
        batch: AttentionBatch,
        cache: LayerCache,
        wanted: Tensor | None,
    ) -> Tensor | Product:
        """x [T, E] -> [n, E] of the tokens `wanted` [n], or of all. Writes this step's keys and
        values into `cache`'s pages."""
        q, k, v = torch.split(self.qkv(x), self._sizes, dim=-1)
        # Views into one [T, (H + 2K) D] tensor: the stride between tokens is (H + 2K) D.
        q = q.unflatten(-1, (self._heads, self._head_dim))  # [T, H, D]
        k = k.unflatten(-1, (self._kv_heads, self._head_dim))  # [T, K, D]
        v = v.unflatten(-1, (self._kv_heads, self._head_dim))
        q, k = self._normalise(q, k)
        if self._k_scale != 1:
            k = k / self._k_scale
        if self._v_scale != 1:
            v = v / self._v_scale
        k_pages, v_pages = cache
        how = self._scale, self._window, self._softcap
        norm, rope = self.head_norm, self.rope
        if self._decode is not None and batch.max_query_len == 1:
            attended = self._decode(q, k, v, norm, rope, k_pages, v_pages, batch, *how)
        else:
            self._prepare(q, k, v, norm, rope, positions, k_pages, v_pages, batch.slots)
            attended = self._attend(q, k_pages, v_pages, batch, *how)  # [T, H, D]
        attended = select(attended, wanted)
        if self._v_scale != 1:
            attended *= self._v_scale
        return self.out.later(attended.flatten(1))


def select(x: Tensor, wanted: Tensor | None) -> Tensor:
    """The tokens `wanted` [n] of x [T, ...], all without."""
    return x if wanted is None else x.index_select(0, wanted)


def _no_norm(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    return q, k
