"""Llama 2, 3 and 3.x."""

from collections.abc import Mapping
from typing import Any

from quire.models.families.llama_style import assemble, llama_weights, read_sizes, rms_norm
from quire.models.families.reader import Reader
from quire.models.families.rope import read_rope
from quire.models.recipe import AttentionRecipe, LayerRecipe, MlpRecipe, Recipe, SublayerRecipe


def recipe(config: Mapping[str, Any]) -> Recipe:
    """From the parsed config.json of a LlamaForCausalLM."""
    read = Reader(config, "LlamaForCausalLM")
    sizes = read_sizes(read)
    norm = rms_norm(read, 1e-6)
    bias = read.boolean("attention_bias", False)
    attention = AttentionRecipe(
        sizes.num_heads,
        sizes.num_kv_heads,
        sizes.head_dim,
        scale=sizes.head_dim**-0.5,
        rope=read_rope(read, sizes.head_dim, sizes.max_position),
        qkv_bias=bias,
        out_bias=bias,
    )
    mlp = MlpRecipe(
        read.integer("intermediate_size"),
        read.activation("hidden_act", "silu"),
        bias=read.boolean("mlp_bias", False),
    )
    layer = LayerRecipe(attention, SublayerRecipe(norm), mlp, SublayerRecipe(norm))
    layers = (layer,) * sizes.num_layers
    tied = read.boolean("tie_word_embeddings", False)
    weights = llama_weights(layers, norm, tied=tied)
    return assemble(read, sizes, layers, norm, weights, tied=tied)
