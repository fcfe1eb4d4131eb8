"""Qwen2 and Qwen2.5: Llama with biases on q, k and v, and a window over the upper layers."""

from collections.abc import Mapping
from typing import Any

from quire.models.families.llama_style import (
    assemble,
    llama_weights,
    qwen_windows,
    read_sizes,
    rms_norm,
)
from quire.models.families.reader import Reader
from quire.models.families.rope import read_rope
from quire.models.recipe import AttentionRecipe, LayerRecipe, MlpRecipe, Recipe, SublayerRecipe


def recipe(config: Mapping[str, Any]) -> Recipe:
    """From the parsed config.json of a Qwen2ForCausalLM."""
    read = Reader(config, "Qwen2ForCausalLM")
    sizes = read_sizes(read, max_position=32768)
    norm = rms_norm(read, 1e-6)
    mlp = MlpRecipe(read.integer("intermediate_size"), read.activation("hidden_act", "silu"))
    rope = read_rope(read, sizes.head_dim, sizes.max_position)
    layers = [
        LayerRecipe(
            AttentionRecipe(
                sizes.num_heads,
                sizes.num_kv_heads,
                sizes.head_dim,
                scale=sizes.head_dim**-0.5,
                window=window,
                rope=rope,
                qkv_bias=True,
            ),
            SublayerRecipe(norm),
            mlp,
            SublayerRecipe(norm),
        )
        for window in qwen_windows(read, sizes.num_layers)
    ]
    tied = read.boolean("tie_word_embeddings", False)
    weights = llama_weights(layers, norm, tied=tied)
    return assemble(read, sizes, layers, norm, weights, tied=tied)
