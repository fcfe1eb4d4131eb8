"""What most families share: Llama's field names in the config and in the checkpoint.

Each family file reads what is its own and calls these for the rest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from quire.models.families.names import WeightTable
from quire.models.families.reader import Reader
from quire.models.families.rope import longest_sequence
from quire.models.recipe import (
    EmbeddingRecipe,
    HeadRecipe,
    LayerRecipe,
    MoeRecipe,
    NormRecipe,
    Recipe,
    WeightMap,
)

PRE_NORMS = {"attention.before": "input_layernorm", "mlp.before": "post_attention_layernorm"}
SANDWICH_NORMS = {
    "attention.before": "input_layernorm",
    "attention.after": "post_attention_layernorm",
    "mlp.before": "pre_feedforward_layernorm",
    "mlp.after": "post_feedforward_layernorm",
}
FULL, SLIDING = "full_attention", "sliding_attention"


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes every config of this style states."""

    vocab: int
    hidden: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_position: int


def read_sizes(
    read: Reader,
    *,
    vocab: int | None = None,
    num_heads: int | None = None,
    num_kv_heads: int | None = None,
    head_dim: int | None = None,
    max_position: int = 2048,
) -> Sizes:
    """Read them; the arguments are the family's defaults, None where a value must be given
    (the number of KV heads then defaults to that of the heads, the head's to E / H)."""
    hidden = read.integer("hidden_size")
    heads = read.integer("num_attention_heads", num_heads)
    kv_heads = read.integer("num_key_value_heads", num_kv_heads or heads)
    if heads % kv_heads:
        raise read.fail(
            f"'num_attention_heads' ({heads}) is not a multiple of "
            f"'num_key_value_heads' ({kv_heads})"
        )
    if head_dim is None and not read.has("head_dim") and hidden % heads:
        raise read.fail(
            f"'hidden_size' ({hidden}) is not a multiple of 'num_attention_heads' ({heads})"
        )
    return Sizes(
        vocab=read.integer("vocab_size", vocab),
        hidden=hidden,
        num_layers=read.integer("num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=read.integer("head_dim", head_dim or hidden // heads),
        max_position=read.integer("max_position_embeddings", max_position),
    )


def rms_norm(read: Reader, eps: float) -> NormRecipe:
    """Llama's RMSNorm; `eps` is the family's default."""
    return NormRecipe("rms", read.number("rms_norm_eps", eps))


def layer_windows(
    read: Reader, num_layers: int, window: int | None, default: Sequence[str]
) -> tuple[int | None, ...]:
    """Each layer's attention window, from `layer_types` or the family's default of it."""
    types = read.strings("layer_types", num_layers, (FULL, SLIDING)) or tuple(default)
    if window is None and SLIDING in types:
        raise read.fail("'layer_types' has sliding layers but 'sliding_window' is not given")
    return tuple(window if kind == SLIDING else None for kind in types)


def qwen_windows(read: Reader, num_layers: int) -> tuple[int | None, ...]:
    """Qwen's rule: with `use_sliding_window`, layers from `max_window_layers` on slide."""
    if not read.boolean("use_sliding_window", False):
        return (None,) * num_layers
    first = read.integer("max_window_layers", 28, low=0)
    default = [SLIDING if i >= first else FULL for i in range(num_layers)]
    window = read.integer("sliding_window", 4096)
    return layer_windows(read, num_layers, window, default)


def assemble(
    read: Reader,
    sizes: Sizes,
    layers: Sequence[LayerRecipe],
    norm: NormRecipe,
    weights: WeightMap,
    *,
    tied: bool,
    embedding: EmbeddingRecipe | None = None,
    head: HeadRecipe | None = None,
    max_position: int | None = None,
) -> Recipe:
    """The whole recipe; `max_position` where the config's own length is the scaled one."""
    ropes = {layer.attention.rope for layer in layers} - {None}
    longest = max((longest_sequence(rope) for rope in ropes if rope), default=sizes.max_position)
    return Recipe(
        architecture=read.architecture,
        vocab_size=sizes.vocab,
        hidden_size=sizes.hidden,
        max_position=max_position or longest,
        embedding=embedding or EmbeddingRecipe(sizes.hidden),
        layers=tuple(layers),
        final_norm=norm,
        head=head or HeadRecipe(tied),
        weights=weights,
        dtype=read.dtype(),
    )


def llama_weights(
    layers: Sequence[LayerRecipe],
    norm: NormRecipe,
    *,
    tied: bool,
    norms: Mapping[str, str] = PRE_NORMS,
    expert_names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj"),
    moe_parts: Sequence[str] = ("mlp",),
) -> WeightMap:
    """Checkpoint names of Llama and its kin.

    Args:
        norms: "attention.before", "mlp.after" and so on -> the norm's name in a layer.
        expert_names: an expert's gate, up and down projections.
        moe_parts: what a layer calls its routed MLP, in the releases there have been.
    """
    table = WeightTable()
    table.linear("model.embed_tokens", "embedding", bias=False)
    for i, layer in enumerate(layers):
        source, param = f"model.layers.{i}", f"layers.{i}"
        table.separate_qkv(
            f"{source}.self_attn", f"{param}.attention", layer.attention, out="o_proj"
        )
        if isinstance(layer.mlp, MoeRecipe):
            for part in moe_parts:
                table.experts(f"{source}.{part}", f"{param}.mlp", layer.mlp, expert_names)
        else:
            table.separate_gate_up(f"{source}.mlp", f"{param}.mlp", layer.mlp)
        put_layer_norms(table, source, param, layer, norms)
    table.norm("model.norm", "final_norm", norm)
    table.head("lm_head", tied)
    return table.build("model.")


def put_layer_norms(
    table: WeightTable, source: str, param: str, layer: LayerRecipe, norms: Mapping[str, str]
) -> None:
    """The norms around both sublayers of a layer."""
    for part, place in (("attention", layer.attention_place), ("mlp", layer.mlp_place)):
        names = {key.partition(".")[2]: n for key, n in norms.items() if key.startswith(part)}
        table.place_norms(source, f"{param}.{part}", place, **names)
