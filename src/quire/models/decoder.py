"""The decoder: any recipe's model, built once, without a decision left for `forward`.

Implements the model protocol (`forward`, `logits`, `recipe`). It makes parameters with
undefined values; `weights/` fills them through the recipe's `WeightMap`. It holds no KV cache.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from quire.kernels.batch import AttentionBatch, LayerCache, StepInputs
from quire.kernels.table import DecoderParts, LayerParts, Ops, Rope, RunLayers
from quire.layers.attention import Attention, select
from quire.layers.embedding import Embedder
from quire.layers.experts import Experts
from quire.layers.head import Head
from quire.layers.linear import Linear, Product, computed
from quire.layers.mlp import GatedMlp, make_mlp
from quire.layers.norm import Norm, RmsNorm, make_norm
from quire.layers.parameters import Maker
from quire.layers.residual import make_enter, make_enter_linear, make_leave
from quire.layers.rotary import make_rope
from quire.models.recipe import (
    LayerRecipe,
    MlpRecipe,
    MoeRecipe,
    Recipe,
    RopeRecipe,
    group_of_layer,
)
from quire.quant.layouts.layout import Dense, Layout

# What `LayerParts` has a place for.
LAYER_NORMS = {"attention_norm", "attention_after_norm", "mlp_norm", "mlp_after_norm"}


class Layer(nn.Module):
    """Attention and an MLP beside the residual stream; each kind below connects them its way.

    Norms are children by the recipe's names. `leaves_open` tells the next layer whether the
    stream it gets is still to be added up (see `layers.residual`).
    """

    def __init__(
        self,
        recipe: LayerRecipe,
        hidden: int,
        ops: Ops,
        rope: Rope | None,
        make: Maker,
        stream_open: bool,
    ) -> None:
        super().__init__()
        self.attention = Attention(recipe.attention, hidden, ops, rope, make)
        self.mlp = (
            Experts(recipe.mlp, hidden, ops, make)
            if isinstance(recipe.mlp, MoeRecipe)
            else make_mlp(recipe.mlp, hidden, make)
        )
        norms = {name: make_norm(norm, hidden, ops, make) for name, norm in recipe.norms().items()}
        for name, norm in norms.items():
            self.add_module(name, norm)
        self.norms = norms
        self.leaves_open = "mlp_residual_norm" not in norms
        self._connect(recipe, norms, stream_open)

    def _connect(self, recipe: LayerRecipe, norms: dict[str, Norm], stream_open: bool) -> None:
        raise NotImplementedError


class SequentialLayer(Layer):
    """Attention, then the MLP, each read from and added to the stream."""

    def _connect(self, recipe: LayerRecipe, norms: dict[str, Norm], stream_open: bool) -> None:
        norm = norms.get
        closing, scale = norm("attention_residual_norm"), recipe.attention_place.multiplier
        self._enter_attention = make_enter_linear(norm("attention_norm"), stream_open)
        self._leave_attention = make_leave(norm("attention_after_norm"), closing, scale)
        stream_open = closing is None
        closing, scale = norm("mlp_residual_norm"), recipe.mlp_place.multiplier
        make = make_enter if isinstance(self.mlp, Experts) else make_enter_linear
        self._enter_mlp = make(norm("mlp_norm"), stream_open)
        self._leave_mlp = make_leave(norm("mlp_after_norm"), closing, scale)

    def forward(
        self,
        delta: Tensor | Product,
        residual: Tensor,
        positions: Tensor,
        batch: AttentionBatch,
        cache: LayerCache,
        wanted: Tensor | None,
    ) -> tuple[Tensor | Product, Tensor]:
        """The stream before the layer [T, E] -> the stream after it, of the tokens `wanted` [n] or
        of all."""
        x, residual = self._enter_attention(delta, residual)
        x = self.attention(x, positions, batch, cache, wanted)
        residual = select(residual, wanted)
        delta, residual = self._leave_attention(x, residual)
        x, residual = self._enter_mlp(delta, residual)
        x = self.mlp(x)
        return self._leave_mlp(x, residual)


class ParallelLayer(Layer):
    """x + attention(norm1(x)) + mlp(norm2(x)); norm2 may be norm1 itself."""

    def _connect(self, recipe: LayerRecipe, norms: dict[str, Norm], stream_open: bool) -> None:
        self._enter = make_enter(norms["attention_norm"], stream_open)
        self._mlp_input = _mlp_input(norms.get("mlp_norm"))

    def forward(
        self,
        delta: Tensor,
        residual: Tensor,
        positions: Tensor,
        batch: AttentionBatch,
        cache: LayerCache,
        wanted: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """The stream before the layer [T, E] -> the stream after it, of the tokens `wanted` [n] or
        of all."""
        x, residual = self._enter(delta, residual)
        attended = self.attention(x, positions, batch, cache, wanted)
        x, residual = select(x, wanted), select(residual, wanted)
        return computed(attended) + computed(self.mlp(self._mlp_input(x, residual))), residual


def _mlp_input(norm: Norm | None) -> Callable[[Tensor, Tensor], Tensor]:
    """(the attention's input, the stream) -> the MLP's input, in a parallel layer."""
    if norm is None:
        return lambda x, _: x
    own = norm
    return lambda _, stream: own(stream)


class Decoder(nn.Module):
    """A decoder-only model built from its recipe.

    Args:
        ops: the implementation of each op on `device`.
        dtype: of every parameter and activation.
        max_len: the longest sequence it will be given; sizes the rope tables, and settles
            the scalings that depend on length (`layers.rotary`).
        layout: of the weights of attention and dense MLPs.
        table_layout: of the weights of embedding and head.
    """

    capturable = True  # a step launches the same kernels whatever the batch holds

    def __init__(
        self,
        recipe: Recipe,
        ops: Ops,
        dtype: torch.dtype,
        device: torch.device,
        max_len: int,
        layout: type[Layout] = Dense,
        table_layout: type[Layout] = Dense,
    ) -> None:
        super().__init__()
        self.recipe = recipe
        held = (ops.held(one, dtype) for one in (layout, table_layout, Dense))
        make = Maker(dtype, torch.device(device), ops, *held)
        hidden = recipe.hidden_size
        self._embed = Embedder(recipe.embedding, recipe.vocab_size, hidden, ops, make)
        for name, module in self._embed.modules.items():
            self.add_module(name, module)
        self.layers, stream_open = _make_layers(recipe, ops, make, max_len)
        self.final_norm = (
            None if recipe.final_norm is None else make_norm(recipe.final_norm, hidden, ops, make)
        )
        self._leave = make_enter(self.final_norm, stream_open)
        tied = self._embed.table if recipe.head.tied else None
        dim = recipe.embedding.dim
        self.project_out = Linear(make.dense, hidden, dim) if dim != hidden else nn.Identity()
        self.head = Head(recipe.head, recipe.vocab_size, dim, tied, make)
        self._groups = group_of_layer(recipe.kv_groups())
        attention = [layer.attention for layer in recipe.layers]
        self.group_sizes: Sequence[int] = [a.num_heads // a.num_kv_heads for a in attention]
        self._layers_op = ops.layers
        self._caches: Sequence[LayerCache] | None = None  # `_together` is for these but the last
        self._together: RunLayers | None = None
        self.eval()

    def forward(
        self, inputs: StepInputs, kv: Sequence[LayerCache], wanted: Tensor | None = None
    ) -> Tensor:
        """Final hidden states, the final norm applied: of the tokens `wanted` [n], or of all.

        Writes this step's keys and values into `kv`, one pair of page tensors a layer. Of tokens
        not wanted nothing follows the last layer's attention: where only the last token of a
        prompt is, that is seven eighths of a layer's work.
        """
        delta = residual = self._embed(inputs.token_ids, inputs.positions)
        batches = [inputs.groups[group] for group in self._groups]
        *before, last = zip(self.layers, batches, kv, strict=True)
        if self._layers_op is not None and self._caches is not kv:
            self._caches, self._together = kv, self._layers_op(self._layer_parts()[:-1], kv[:-1])
        if self._together is not None:
            delta, residual = self._together(delta, inputs)
        else:
            for layer, batch, cache in before:
                delta, residual = layer(delta, residual, inputs.positions, batch, cache, None)
        layer, batch, cache = last
        delta, residual = layer(delta, residual, inputs.positions, batch, cache, wanted)
        return self._leave(delta, residual)[0]

    def parts(self) -> DecoderParts | None:
        """What the model is made of, if it is of the kind that `DecoderParts` stands for."""
        layers, norm = self._layer_parts(), self.final_norm
        if not (layers and isinstance(norm, RmsNorm) and self._embed.plain and self.head.plain):
            return None
        if not isinstance(self.project_out, nn.Identity):
            return None
        embedding, multiplier = self._embed.table.layout, self._embed.multiplier
        return DecoderParts(embedding, multiplier, layers, norm.parts(), self.head.parts())

    def _layer_parts(self) -> list[LayerParts]:
        """Of every layer; of none if one is of another kind."""
        described = map(_parts, self.layers, self.recipe.layers, self._groups)
        parts = [layer for layer in described if layer is not None]
        return parts if len(parts) == len(self.layers) else []

    def scale_cache(self, scales: Mapping[int, tuple[float, float]]) -> None:
        """Hold keys and values of layers in the cache divided by (k_scale, v_scale)."""
        for index, (k_scale, v_scale) in scales.items():
            layer = self.layers[index]
            assert isinstance(layer, Layer)
            layer.attention.scale_cache(k_scale, v_scale)

    @property
    def logits_dtype(self) -> torch.dtype:
        return self.head.dtype

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states [n, E] -> logits [n, V]."""
        made: Tensor = self.head(self.project_out(hidden))
        return made


def _make_layers(recipe: Recipe, ops: Ops, make: Maker, max_len: int) -> tuple[nn.ModuleList, bool]:
    """The layers, and whether the last one leaves the residual stream open."""
    ropes: dict[RopeRecipe, Rope] = {}
    layers = nn.ModuleList()
    stream_open = False  # the embedding is the whole stream
    for layer in recipe.layers:
        rope = layer.attention.rope
        if rope is not None and rope not in ropes:
            ropes[rope] = make_rope(rope, max_len, make.device)
        table = None if rope is None else ropes[rope]
        kind = ParallelLayer if layer.parallel else SequentialLayer
        made = kind(layer, recipe.hidden_size, ops, table, make, stream_open)
        stream_open = made.leaves_open
        layers.append(made)
    return layers, stream_open


def _parts(layer: nn.Module, recipe: LayerRecipe, group: int) -> LayerParts | None:
    """What `layer` is made of, if it is of the kind that `LayerParts` stands for."""
    assert isinstance(layer, Layer)
    attention, mlp, heads = layer.attention, layer.mlp, recipe.attention
    norms = {name: norm.parts() for name, norm in layer.norms.items() if isinstance(norm, RmsNorm)}
    common = (
        not recipe.parallel
        and norms.keys() == layer.norms.keys()
        and {"attention_norm", "mlp_norm"} <= norms.keys() <= LAYER_NORMS
        and recipe.attention_place.multiplier == recipe.mlp_place.multiplier == 1.0
        and attention.plain
    )
    if not common or not isinstance(mlp, GatedMlp) or not isinstance(recipe.mlp, MlpRecipe):
        return None
    return LayerParts(
        attention_norm=norms["attention_norm"],
        qkv=attention.qkv.parts(),
        head_norm=attention.head_norm,
        rope=attention.rope,
        num_heads=heads.num_heads,
        num_kv_heads=heads.num_kv_heads,
        head_dim=heads.head_dim,
        scale=heads.scale,
        window=heads.window,
        softcap=heads.softcap,
        out=attention.out.parts(),
        attention_after_norm=norms.get("attention_after_norm"),
        mlp_norm=norms["mlp_norm"],
        gate_up=mlp.gate_up.parts(),
        activation=recipe.mlp.activation,
        down=mlp.down.parts(),
        mlp_after_norm=norms.get("mlp_after_norm"),
        group=group,
    )
