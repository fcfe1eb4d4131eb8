"""Mistral: Llama with a sliding window over every layer."""

from collections.abc import Mapping
from typing import Any

from quire.models.families.llama_style import assemble, llama_weights, read_sizes, rms_norm
from quire.models.families.reader import Reader
from quire.models.families.rope import read_rope
from quire.models.recipe import AttentionRecipe, LayerRecipe, MlpRecipe, Recipe, SublayerRecipe


def recipe(config: Mapping[str, Any]) -> Recipe:
    """From the parsed config.json of a MistralForCausalLM."""
    read = Reader(config, "MistralForCausalLM")
    sizes = read_sizes(read, num_kv_heads=8, max_position=4096 * 32)
    norm = rms_norm(read, 1e-6)
    attention = AttentionRecipe(
        sizes.num_heads,
        sizes.num_kv_heads,
        sizes.head_dim,
        scale=sizes.head_dim**-0.5,
        # Null says full attention; a config that does not say is of the first release.
        window=4096 if "sliding_window" not in config else read.optional_integer("sliding_window"),
        rope=read_rope(read, sizes.head_dim, sizes.max_position),
    )
    mlp = MlpRecipe(read.integer("intermediate_size"), read.activation("hidden_act", "silu"))
    layers = (
        LayerRecipe(attention, SublayerRecipe(norm), mlp, SublayerRecipe(norm)),
    ) * sizes.num_layers
    tied = read.boolean("tie_word_embeddings", False)
    weights = llama_weights(layers, norm, tied=tied)
    return assemble(read, sizes, layers, norm, weights, tied=tied)
