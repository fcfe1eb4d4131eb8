"""Gemma 2: windows in every other layer, norms on both sides of a sublayer, soft caps."""

from collections.abc import Sequence
from dataclasses import replace

from quire.models.families.llama_style import FULL, SLIDING, assemble, layer_windows, with_windows
from quire.models.families.names import SANDWICH_NORMS, Names
from quire.models.families.reader import Reader
from quire.models.families.rope import read_rope
from quire.models.families.sizes import Sizes, read_sizes
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


def recipe(read: Reader) -> Recipe:
    """Of a Gemma2ForCausalLM."""
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
    return read_sizes(
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
