"""Building a `WeightMap`: checkpoint names on one side, the decoder's parameters on the other.

The decoder's parameter names, with i a layer's index:
  embedding.weight, positions.weight, project_in.weight, project_out.weight,
  layers.i.{attention,mlp}_{norm,after_norm,residual_norm}.*, layers.i.attention.{qkv,out}.*,
  layers.i.attention.{q_norm,k_norm}.weight, layers.i.mlp.{gate_up,up,down}.*,
  layers.i.mlp.router.weight and (experts, without ".weight") layers.i.mlp.{gate_up,down},
  final_norm.*, head.weight, head.bias.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from quire.models.recipe import (
    AttentionRecipe,
    LayerRecipe,
    MlpRecipe,
    MoeRecipe,
    NormRecipe,
    Placement,
    Recipe,
    Transform,
    WeightMap,
)

# Buffers of old checkpoints, the parts of multi-modal ones that are not the decoder, and scales for
# a cache of 8 bits (`weights.kv_scales` reads them).
IGNORED = (
    r"\b(q|k|v|kv|prob)_scale$",
    r"rotary_emb\.(inv_freq|cos_cached|sin_cached)$",
    r"^(model\.)?(vision_tower|vision_model|visual|multi_modal_projector)\.",
)
# The decoder may stand inside a multi-modal checkpoint.
WRAPPERS = ("language_model.", "model.language_model.")

PRE_NORMS = {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
SANDWICH_NORMS = {
    "attention_norm": "input_layernorm",
    "attention_after_norm": "post_attention_layernorm",
    "mlp_norm": "pre_feedforward_layernorm",
    "mlp_after_norm": "post_feedforward_layernorm",
}


@dataclass(frozen=True, slots=True)
class Names:
    """What a family calls its tensors; the defaults are Llama's.

    Args:
        base: what everything but the head stands under. A checkpoint may leave it out.
        qkv: three tensors, or a fused one; per head if `heads_interleaved`.
        up: gate and up, or a fused one; of a plain MLP the only one.
        experts: an expert's gate, up and down projections.
        moe: what a layer calls its routed MLP, in the releases there have been.
        norms: the decoder's name of a norm in a layer -> the checkpoint's.
        heads: the head, in the releases there have been.
        transposed: the layers' matrices are stored as [in, out].
        prefixes: other prefixes that may stand before a name or be missing.
    """

    base: str = "model"
    embedding: str = "embed_tokens"
    positions: str = "embed_positions"
    layers: str = "layers"
    qkv: tuple[str, ...] = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    out: str = "self_attn.o_proj"
    up: tuple[str, ...] = ("mlp.gate_proj", "mlp.up_proj")
    down: str = "mlp.down_proj"
    experts: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj")
    moe: tuple[str, ...] = ("mlp",)
    norms: Mapping[str, str] = field(default_factory=lambda: PRE_NORMS)
    final_norm: str = "norm"
    heads: tuple[str, ...] = ("lm_head",)
    transposed: bool = False
    heads_interleaved: bool = False
    ignored: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()


def weight_map(recipe: Recipe, names: Names) -> WeightMap:
    """Where each tensor of a checkpoint goes: the recipe says what there is."""
    table = _Table()
    table.linear(f"{names.base}.{names.embedding}", "embedding")
    if recipe.embedding.num_positions is not None:
        table.linear(f"{names.base}.{names.positions}", "positions")
    if recipe.embedding.dim != recipe.hidden_size:
        table.linear(f"{names.base}.project_in", "project_in")
        table.linear(f"{names.base}.project_out", "project_out")
    for i, layer in enumerate(recipe.layers):
        _layer(table, names, f"{names.base}.{names.layers}.{i}", f"layers.{i}", layer)
    table.norm(f"{names.base}.{names.final_norm}", "final_norm", recipe.final_norm)
    for name in names.heads:
        # A tied head may be stored too, and is then the embedding.
        optional = recipe.head.tied or len(names.heads) > 1
        places = () if recipe.head.tied else (Placement("head.weight"),)
        table.put(f"{name}.weight", *places, optional=optional)
        if recipe.head.bias:
            table.put(f"{name}.bias", Placement("head.bias"), optional=optional)
    return WeightMap(
        table.places,
        (*IGNORED, *names.ignored),
        frozenset(table.optional),
        (f"{names.base}.", *names.prefixes, *WRAPPERS),
    )


class _Table:
    """Places under construction."""

    def __init__(self) -> None:
        self.places: dict[str, tuple[Placement, ...]] = {}
        self.optional: set[str] = set()

    def put(self, source: str, *places: Placement, optional: bool = False) -> None:
        self.places[source] = places
        if optional:
            self.optional.add(source)

    def linear(
        self,
        source: str,
        param: str,
        bias: bool = False,
        rows: tuple[int, int] | None = None,
        transform: Transform = "none",
        num_heads: int = 0,
    ) -> None:
        """`source`.weight (and .bias) to `param`, or to `rows` of its output dimension."""
        self.put(f"{source}.weight", Placement(f"{param}.weight", rows, None, transform, num_heads))
        if bias:
            # A bias has one dimension: only the reordering of heads applies to it.
            kept: Transform = "split_heads_qkv" if transform == "split_heads_qkv" else "none"
            self.put(f"{source}.bias", Placement(f"{param}.bias", rows, None, kept, num_heads))

    def joined(
        self,
        sources: Sequence[str],
        sizes: Sequence[int],
        param: str,
        bias: bool,
        transform: Transform = "none",
        num_heads: int = 0,
    ) -> None:
        """Tensors of `sizes` rows, the first on top in `param`; a single one is all of it."""
        if len(sources) == 1:
            self.linear(sources[0], param, bias, None, transform, num_heads)
            return
        start = 0
        for source, size in zip(sources, sizes, strict=True):
            self.linear(source, param, bias, (start, start + size), transform)
            start += size

    def norm(self, source: str, param: str, norm: NormRecipe | None) -> None:
        """`source`.weight (and .bias) to `param`, if there is such a norm."""
        if norm is not None and norm.affine:
            self.linear(source, param, norm.bias)


def _layer(table: _Table, names: Names, source: str, param: str, layer: LayerRecipe) -> None:
    _attention(table, names, source, f"{param}.attention", layer.attention)
    if isinstance(layer.mlp, MoeRecipe):
        for part in names.moe:
            _experts(table, names.experts, f"{source}.{part}", f"{param}.mlp", layer.mlp)
    else:
        _mlp(table, names, source, f"{param}.mlp", layer.mlp)
    for name, norm in layer.norms().items():
        table.norm(f"{source}.{names.norms[name]}", f"{param}.{name}", norm)


def _attention(table: _Table, names: Names, source: str, param: str, a: AttentionRecipe) -> None:
    q, kv = a.num_heads * a.head_dim, a.num_kv_heads * a.head_dim
    how: Transform = "transpose" if names.transposed else "none"
    sources = [f"{source}.{name}" for name in names.qkv]
    if names.heads_interleaved:
        table.joined(sources, (), f"{param}.qkv", a.qkv_bias, "split_heads_qkv", a.num_heads)
    else:
        table.joined(sources, (q, kv, kv), f"{param}.qkv", a.qkv_bias, how)
    table.linear(f"{source}.{names.out}", f"{param}.out", a.out_bias, transform=how)
    table.norm(f"{source}.self_attn.q_norm", f"{param}.q_norm", a.qk_norm)
    table.norm(f"{source}.self_attn.k_norm", f"{param}.k_norm", a.qk_norm)


def _mlp(table: _Table, names: Names, source: str, param: str, mlp: MlpRecipe) -> None:
    how: Transform = "transpose" if names.transposed else "none"
    sources = [f"{source}.{name}" for name in names.up]
    ours = f"{param}.gate_up" if mlp.gated else f"{param}.up"
    table.joined(sources, (mlp.size, mlp.size), ours, mlp.bias, how)
    table.linear(f"{source}.{names.down}", f"{param}.down", mlp.bias, transform=how)


def _experts(
    table: _Table, names: tuple[str, str, str], source: str, param: str, moe: MoeRecipe
) -> None:
    """Routed experts, stored a tensor per expert or stacked."""
    f = moe.size
    gate, up, down = names
    table.put(f"{source}.gate.weight", Placement(f"{param}.router.weight"), optional=True)
    for x in range(moe.num_experts):
        for name, place in (
            (gate, Placement(f"{param}.gate_up", (0, f), x)),
            (up, Placement(f"{param}.gate_up", (f, 2 * f), x)),
            (down, Placement(f"{param}.down", None, x)),
        ):
            table.put(f"{source}.experts.{x}.{name}.weight", place, optional=True)
    for name, target in (("gate_up_proj", "gate_up"), ("down_proj", "down")):
        table.put(f"{source}.experts.{name}", Placement(f"{param}.{target}"), optional=True)
