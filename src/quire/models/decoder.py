"""The decoder: any recipe's model, built once, without a decision left for `forward`.

Implements the model protocol (`forward`, `logits`, `recipe`). It makes parameters with
undefined values; `weights/` fills them through the recipe's `WeightMap`. It holds no KV cache.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from quire.kernels.batch import AttentionBatch, LayerCache, StepInputs
from quire.kernels.table import Ops
from quire.layers.attention import Attention
from quire.layers.embedding import Embedder
from quire.layers.experts import Experts
from quire.layers.head import Head
from quire.layers.linear import Linear
from quire.layers.mlp import GatedMlp, PlainMlp, make_mlp
from quire.layers.norm import Norm, make_norm
from quire.layers.parameters import Maker
from quire.layers.residual import Enter, make_enter, make_leave
from quire.layers.rotary import Rotary
from quire.models.recipe import (
    LayerRecipe,
    MlpRecipe,
    MoeRecipe,
    Recipe,
    RopeRecipe,
    SublayerRecipe,
)

# (the attention's input, the stream) -> the MLP's input, in a parallel layer
_MlpInput = Callable[[Tensor, Tensor], Tensor]


class Layer(nn.Module):
    """Attention, then the MLP, each read from and added to the residual stream."""

    def __init__(
        self,
        recipe: LayerRecipe,
        hidden: int,
        ops: Ops,
        rotary: Rotary | None,
        make: Maker,
        stream_open: bool,
    ) -> None:
        super().__init__()
        self.attention = Attention(recipe.attention, hidden, ops, rotary, make)
        self.mlp = _make_mlp(recipe.mlp, hidden, ops, make)
        places = (("attention", recipe.attention_place), ("mlp", recipe.mlp_place))
        norms = {part: self._norms(part, place, hidden, ops, make) for part, place in places}
        before, after, closing = norms["attention"]
        self._enter_attention = make_enter(before, stream_open)
        self._leave_attention = make_leave(after, closing, recipe.attention_place.multiplier)
        stream_open = closing is None
        before, after, closing = norms["mlp"]
        self._enter_mlp = make_enter(before, stream_open)
        self._leave_mlp = make_leave(after, closing, recipe.mlp_place.multiplier)
        self.leaves_open = closing is None

    def _norms(
        self, part: str, place: SublayerRecipe, hidden: int, ops: Ops, make: Maker
    ) -> tuple[Norm | None, Norm | None, Norm | None]:
        made: list[Norm | None] = []
        for suffix, norm in (
            ("norm", place.before),
            ("after_norm", place.after),
            ("residual_norm", place.after_residual),
        ):
            module = None if norm is None else make_norm(norm, hidden, ops, make)
            if module is not None:
                self.add_module(f"{part}_{suffix}", module)
            made.append(module)
        return made[0], made[1], made[2]

    def forward(
        self,
        delta: Tensor,
        residual: Tensor,
        positions: Tensor,
        batch: AttentionBatch,
        cache: LayerCache,
    ) -> tuple[Tensor, Tensor]:
        """The stream before the layer -> the stream after it; each tensor [T, E]."""
        x, residual = self._enter_attention(delta, residual)
        x = self.attention(x, positions, batch, cache)
        delta, residual = self._leave_attention(x, residual)
        x, residual = self._enter_mlp(delta, residual)
        x = self.mlp(x)
        return self._leave_mlp(x, residual)


class ParallelLayer(nn.Module):
    """x + attention(norm1(x)) + mlp(norm2(x)); norm2 may be norm1 itself."""

    leaves_open = True

    def __init__(
        self,
        recipe: LayerRecipe,
        hidden: int,
        ops: Ops,
        rotary: Rotary | None,
        make: Maker,
        stream_open: bool,
    ) -> None:
        super().__init__()
        self.attention = Attention(recipe.attention, hidden, ops, rotary, make)
        self.mlp = _make_mlp(recipe.mlp, hidden, ops, make)
        before = recipe.attention_place.before
        assert before is not None, "a parallel layer normalises its input"
        self.attention_norm = make_norm(before, hidden, ops, make)
        self._enter: Enter = make_enter(self.attention_norm, stream_open)
        self._mlp_input = self._make_mlp_input(recipe, hidden, ops, make)

    def _make_mlp_input(self, recipe: LayerRecipe, hidden: int, ops: Ops, make: Maker) -> _MlpInput:
        if recipe.shared_norm:
            return _first
        before = recipe.mlp_place.before
        assert before is not None, "a parallel layer normalises its input"
        norm = self.mlp_norm = make_norm(before, hidden, ops, make)
        return lambda _, stream: norm(stream)

    def forward(
        self,
        delta: Tensor,
        residual: Tensor,
        positions: Tensor,
        batch: AttentionBatch,
        cache: LayerCache,
    ) -> tuple[Tensor, Tensor]:
        """The stream before the layer -> the stream after it; each tensor [T, E]."""
        x, residual = self._enter(delta, residual)
        y = self.mlp(self._mlp_input(x, residual))
        return self.attention(x, positions, batch, cache) + y, residual


def _first(x: Tensor, stream: Tensor) -> Tensor:
    return x


def _make_mlp(
    recipe: MlpRecipe | MoeRecipe, hidden: int, ops: Ops, make: Maker
) -> GatedMlp | PlainMlp | Experts:
    if isinstance(recipe, MoeRecipe):
        return Experts(recipe, hidden, ops, make)
    return make_mlp(recipe, hidden, ops, make)


class Decoder(nn.Module):
    """A decoder-only model built from its recipe.

    Args:
        ops: the implementation of each op on `device`.
        dtype: of every parameter and activation.
        max_len: the longest sequence it will be given; sizes the rope tables, and settles
            the scalings that depend on length (`layers.rotary`).
    """

    capturable = True  # a decode step launches the same kernels whatever the batch holds

    def __init__(
        self, recipe: Recipe, ops: Ops, dtype: torch.dtype, device: torch.device, max_len: int
    ) -> None:
        super().__init__()
        self.recipe = recipe
        make = Maker(dtype, torch.device(device))
        hidden = recipe.hidden_size
        self._embed = Embedder(recipe.embedding, recipe.vocab_size, hidden, ops, make)
        for name, module in self._embed.modules.items():
            self.add_module(name, module)
        self.layers, stream_open = _make_layers(recipe, ops, make, max_len)
        self.final_norm = (
            None if recipe.final_norm is None else make_norm(recipe.final_norm, hidden, ops, make)
        )
        self._leave = make_enter(self.final_norm, stream_open)
        tied = self._embed.table.weight if recipe.head.tied else None
        dim = recipe.embedding.dim
        self.project_out = Linear(make, hidden, dim) if dim != hidden else nn.Identity()
        self.head = Head(recipe.head, recipe.vocab_size, dim, tied, make)
        self._groups = _group_of_layer(recipe)
        self.eval()

    def forward(self, inputs: StepInputs, kv: Sequence[LayerCache]) -> Tensor:
        """Final hidden states [T, E], the final norm applied.

        Writes this step's keys and values into `kv`, one pair of page tensors a layer.
        """
        delta = residual = self._embed(inputs.token_ids, inputs.positions)
        for layer, group, cache in zip(self.layers, self._groups, kv, strict=True):
            delta, residual = layer(delta, residual, inputs.positions, inputs.groups[group], cache)
        return self._leave(delta, residual)[0]

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states [n, E] -> logits [n, V] float32."""
        made: Tensor = self.head(self.project_out(hidden))
        return made


def _make_layers(recipe: Recipe, ops: Ops, make: Maker, max_len: int) -> tuple[nn.ModuleList, bool]:
    """The layers, and whether the last one leaves the residual stream open."""
    ropes: dict[RopeRecipe, Rotary] = {}
    layers = nn.ModuleList()
    stream_open = False  # the embedding is the whole stream
    for layer in recipe.layers:
        rope = layer.attention.rope
        rotary = None
        if rope is not None:
            if rope not in ropes:
                ropes[rope] = Rotary(rope, max_len, ops, make.device)
            rotary = ropes[rope]
        kind = ParallelLayer if layer.parallel else Layer
        made = kind(layer, recipe.hidden_size, ops, rotary, make, stream_open)
        stream_open = made.leaves_open
        layers.append(made)
    return layers, stream_open


def _group_of_layer(recipe: Recipe) -> tuple[int, ...]:
    group_of = {
        layer.layer: index
        for index, group in enumerate(recipe.kv_groups())
        for layer in group.layers
    }
    return tuple(group_of[i] for i in range(len(recipe.layers)))
