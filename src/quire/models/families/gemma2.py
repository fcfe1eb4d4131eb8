"""Gemma 2: windows in every other layer, norms on both sides of a sublayer, soft caps."""

from collections.abc import Mapping
from typing import Any

from quire.models.families.llama_style import (
    FULL,
    SANDWICH_NORMS,
    SLIDING,
    assemble,
    layer_windows,
    llama_weights,
    read_sizes,
)
from quire.models.families.reader import Reader
from quire.models.families.rope import read_rope
from quire.models.recipe import (
    AttentionRecipe,
    EmbeddingRecipe,
    HeadRecipe,
    LayerRecipe,
    MlpRecipe,
    NormRecipe,
    Recipe,
    SublayerRecipe,
)


def recipe(config: Mapping[str, Any]) -> Recipe:
    """From the parsed config.json of a Gemma2ForCausalLM."""
    read = Reader(config, "Gemma2ForCausalLM")
    read.expect("use_bidirectional_attention", False)
    sizes = read_sizes(
        read, vocab=256000, num_heads=8, num_kv_heads=4, head_dim=256, max_position=8192
    )
    norm = NormRecipe("rms", read.number("rms_norm_eps", 1e-6), weight_offset=1.0)
    bias = read.boolean("attention_bias", False)
    softcap = read.optional_number("attn_logit_softcapping", 50.0)
    scale = read.number("query_pre_attn_scalar", 256) ** -0.5
    rope = read_rope(read, sizes.head_dim, sizes.max_position)
    place = SublayerRecipe(before=norm, after=norm)
    activation = read.activation("hidden_activation", "gelu_pytorch_tanh")
    mlp = MlpRecipe(read.integer("intermediate_size"), activation)
    alternating = [FULL if i % 2 else SLIDING for i in range(sizes.num_layers)]
    window = read.integer("sliding_window", 4096)
    layers = [
        LayerRecipe(
            AttentionRecipe(
                sizes.num_heads,
                sizes.num_kv_heads,
                sizes.head_dim,
                scale=scale,
                window=layer_window,
                rope=rope,
                qkv_bias=bias,
                out_bias=bias,
                softcap=softcap,
            ),
            place,
            mlp,
            place,
        )
        for layer_window in layer_windows(read, sizes.num_layers, window, alternating)
    ]
    tied = read.boolean("tie_word_embeddings", True)
    return assemble(
        read,
        sizes,
        layers,
        norm,
        llama_weights(layers, norm, tied=tied, norms=SANDWICH_NORMS),
        tied=tied,
        embedding=EmbeddingRecipe(
            sizes.hidden, multiplier=sizes.hidden**0.5, round_multiplier=True
        ),
        head=HeadRecipe(tied, softcap=read.optional_number("final_logit_softcapping", 30.0)),
    )
