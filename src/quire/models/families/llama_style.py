"""What most families share beyond sizes, names and rope.

Each family reads what is its own and calls these for the rest.
"""

from collections.abc import Sequence
from dataclasses import replace

from quire.models.families.names import Names, weight_map
from quire.models.families.reader import Reader
from quire.models.families.rope import longest_sequence
from quire.models.families.sizes import Sizes
from quire.models.recipe import (
    AttentionRecipe,
    EmbeddingRecipe,
    HeadRecipe,
    LayerRecipe,
    MlpRecipe,
    MoeRecipe,
    NormRecipe,
    Recipe,
    SublayerRecipe,
    WeightMap,
)

FULL, SLIDING = "full_attention", "sliding_attention"


def rms_norm(read: Reader, eps: float) -> NormRecipe:
    """Llama's RMSNorm; `eps` is the family's default."""
    return NormRecipe("rms", read.number("rms_norm_eps", eps))


def layer_norm(read: Reader) -> NormRecipe:
    return NormRecipe("layer", read.number("layer_norm_eps", 1e-5), bias=True)


def read_mlp(
    read: Reader, *, activation: str = "silu", gated: bool = True, bias: bool = False
) -> MlpRecipe:
    """The dense MLP; `activation` is the family's default."""
    size = read.integer("intermediate_size")
    return MlpRecipe(size, read.activation("hidden_act", activation), gated, bias)


def read_experts(
    read: Reader, *, count: str, num_experts: int, top_k: int, size: str, renormalize: bool = True
) -> MoeRecipe:
    """Routed experts; `count` and `size` are fields, `num_experts` and `top_k` defaults."""
    experts = read.integer(count, num_experts)
    chosen = read.integer("num_experts_per_tok", top_k)
    if chosen > experts:
        raise read.fail(f"'num_experts_per_tok' ({chosen}) is more than '{count}' ({experts})")
    activation = read.activation("hidden_act", "silu")
    return MoeRecipe(experts, chosen, read.integer(size), activation, renormalize)


def pre_norm_layer(
    attention: AttentionRecipe, mlp: MlpRecipe | MoeRecipe, norm: NormRecipe
) -> LayerRecipe:
    """Each sublayer reads the normalised stream."""
    return LayerRecipe(attention, SublayerRecipe(norm), mlp, SublayerRecipe(norm))


def with_windows(layer: LayerRecipe, windows: Sequence[int | None]) -> list[LayerRecipe]:
    """A layer for each window, alike but for it."""
    made = {w: replace(layer, attention=replace(layer.attention, window=w)) for w in set(windows)}
    return [made[window] for window in windows]


def layer_windows(
    read: Reader, num_layers: int, window: int | None, default: Sequence[str]
) -> tuple[int | None, ...]:
    """Each layer's attention window, from `layer_types` or the family's default of it."""
    types = read.strings("layer_types", num_layers, (FULL, SLIDING)) or tuple(default)
    if window is None and SLIDING in types:
        raise read.fail("'layer_types' has sliding layers but 'sliding_window' is not given")
    return tuple(window if kind == SLIDING else None for kind in types)


def assemble(
    read: Reader,
    sizes: Sizes,
    layers: LayerRecipe | Sequence[LayerRecipe],
    final_norm: NormRecipe | None,
    *,
    names: Names | None = None,
    embedding: EmbeddingRecipe | None = None,
    head: HeadRecipe | None = None,
    max_position: int | None = None,
) -> Recipe:
    """The whole recipe.

    Args:
        layers: a single one stands for all.
        names: the checkpoint's; None is Llama's.
        head: `tied` is the family's default; None is an untied head without extras.
        max_position: where the config's own length is the scaled one.
    """
    head = head or HeadRecipe(tied=False)
    if isinstance(layers, LayerRecipe):
        layers = [layers] * sizes.num_layers
    ropes = {layer.attention.rope for layer in layers} - {None}
    longest = max((longest_sequence(rope) for rope in ropes if rope), default=sizes.max_position)
    made = Recipe(
        architecture=read.architecture,
        vocab_size=sizes.vocab,
        hidden_size=sizes.hidden,
        max_position=max_position or longest,
        embedding=embedding or EmbeddingRecipe(sizes.hidden),
        layers=tuple(layers),
        final_norm=final_norm,
        head=replace(head, tied=read.boolean("tie_word_embeddings", head.tied)),
        weights=WeightMap({}),
        dtype=read.dtype(),
    )
    return replace(made, weights=weight_map(made, names or Names()))
