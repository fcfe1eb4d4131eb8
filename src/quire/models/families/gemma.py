"""Gemma 2 and 3: norms on both sides of a sublayer, windows, a scaled embedding."""

from collections.abc import Sequence
from dataclasses import replace

from quire.models.families.llama_style import FULL, SLIDING, assemble, layer_windows, with_windows
from quire.models.families.names import SANDWICH_NORMS, Names
from quire.models.families.reader import Reader
from quire.models.families.rope import read_rope, rope_from_fields
from quire.models.families.sizes import Sizes
from quire.models.recipe import (
    EmbeddingRecipe,
    HeadRecipe,
    LayerRecipe,
    MlpRecipe,
    NormRecipe,
    Recipe,
    RopeRecipe,
    SublayerRecipe,
)


def gemma2(read: Reader) -> Recipe:
    """Gemma 2: windows in every other layer, norms on both sides of a sublayer, soft caps."""
    sizes = gemma_sizes(read, vocab=256_000, max_position=8192)
    layer = gemma_layer(read, sizes, read_rope(read, sizes))
    softcap = read.optional_number("attn_logit_softcapping", 50.0)
    layer = replace(layer, attention=replace(layer.attention, softcap=softcap))
    alternating = [FULL if i % 2 else SLIDING for i in range(sizes.num_layers)]
    window = read.integer("sliding_window", 4096)
    layers = with_windows(layer, layer_windows(read, sizes.num_layers, window, alternating))
    return assemble_gemma(
        read, sizes, layers, softcap=read.optional_number("final_logit_softcapping", 30.0)
    )


def gemma_sizes(read: Reader, *, vocab: int, max_position: int) -> Sizes:
    """Sizes with the defaults that all Gemmas share."""
    read.expect("use_bidirectional_attention", False)
    return Sizes(
        read, vocab=vocab, num_heads=8, num_kv_heads=4, head_dim=256, max_position=max_position
    )


def gemma_norm(read: Reader) -> NormRecipe:
    """RMSNorm whose weight is stored less one."""
    return NormRecipe("rms", read.number("rms_norm_eps", 1e-6), weight_offset=1.0)


def gemma_layer(read: Reader, sizes: Sizes, rope: RopeRecipe) -> LayerRecipe:
    """Norms before and after both sublayers, and a scale of its own."""
    attention = replace(
        sizes.attention(rope, bias=read.boolean("attention_bias", False)),
        scale=read.positive("query_pre_attn_scalar", 256) ** -0.5,
    )
    activation = read.activation("hidden_activation", "gelu_pytorch_tanh")
    mlp = MlpRecipe(read.integer("intermediate_size"), activation)
    norm = gemma_norm(read)
    place = SublayerRecipe(before=norm, after=norm)
    return LayerRecipe(attention, place, mlp, place)


def assemble_gemma(
    read: Reader,
    sizes: Sizes,
    layers: Sequence[LayerRecipe],
    *,
    softcap: float | None,
    max_position: int | None = None,
) -> Recipe:
    """Scaled embedding, tied head; `softcap` is the logits'."""
    return assemble(
        read,
        sizes,
        layers,
        gemma_norm(read),
        names=Names(norms=SANDWICH_NORMS),
        embedding=EmbeddingRecipe(
            sizes.hidden, multiplier=sizes.hidden**0.5, round_multiplier=True
        ),
        head=HeadRecipe(tied=True, softcap=softcap),
        max_position=max_position,
    )


def gemma3_text(read: Reader) -> Recipe:
    """Gemma 3's text model: two ropes, a window in most layers, a norm on each head's q and k."""
    # transformers reads this field and never applies it; no released model sets it.
    read.expect("attn_logit_softcapping", None)
    sizes = gemma_sizes(read, vocab=262_208, max_position=131_072)
    full_rope, sliding_rope = _ropes(read, sizes)
    layer = gemma_layer(read, sizes, full_rope)
    full = replace(layer.attention, qk_norm=gemma_norm(read))
    pattern = read.integer("sliding_window_pattern", 6)
    default = [SLIDING if (i + 1) % pattern else FULL for i in range(sizes.num_layers)]
    window = read.integer("sliding_window", 4096)
    sliding = replace(full, window=window, rope=sliding_rope)
    windows = layer_windows(read, sizes.num_layers, window, default)
    return assemble_gemma(
        read,
        sizes,
        [replace(layer, attention=full if w is None else sliding) for w in windows],
        softcap=read.optional_number("final_logit_softcapping"),
        max_position=sizes.max_position,  # Gemma states the length after scaling
    )


def _ropes(read: Reader, sizes: Sizes) -> tuple[RopeRecipe, RopeRecipe]:
    """The ropes of full and of sliding layers; the scaling of old configs is the full one's."""
    given = Reader(read.mapping("rope_parameters"), f"{read.architecture} (rope_parameters)")
    full = given.mapping(FULL) | read.mapping("rope_scaling")
    sliding = given.mapping(SLIDING)
    full.setdefault("rope_theta", read.number("rope_theta", 1e6))
    sliding.setdefault("rope_theta", read.number("rope_local_base_freq", 1e4))
    return rope_from_fields(read, full, sizes), rope_from_fields(read, sliding, sizes)
