"""Mixtral: Mistral with routed experts in every layer."""

from collections.abc import Mapping
from typing import Any

from quire.models.families.llama_style import assemble, llama_weights, read_sizes, rms_norm
from quire.models.families.reader import Reader
from quire.models.families.rope import read_rope
from quire.models.recipe import AttentionRecipe, LayerRecipe, MoeRecipe, Recipe, SublayerRecipe


def recipe(config: Mapping[str, Any]) -> Recipe:
    """From the parsed config.json of a MixtralForCausalLM."""
    read = Reader(config, "MixtralForCausalLM")
    sizes = read_sizes(read, num_kv_heads=8, max_position=4096 * 32)
    norm = rms_norm(read, 1e-5)
    attention = AttentionRecipe(
        sizes.num_heads,
        sizes.num_kv_heads,
        sizes.head_dim,
        scale=sizes.head_dim**-0.5,
        window=read.optional_integer("sliding_window"),
        rope=read_rope(read, sizes.head_dim, sizes.max_position, theta=1e6),
    )
    experts = MoeRecipe(
        num_experts=read.integer("num_local_experts", 8),
        top_k=read.integer("num_experts_per_tok", 2),
        size=read.integer("intermediate_size"),
        activation=read.activation("hidden_act", "silu"),
    )
    layers = (
        LayerRecipe(attention, SublayerRecipe(norm), experts, SublayerRecipe(norm)),
    ) * sizes.num_layers
    tied = read.boolean("tie_word_embeddings", False)
    weights = llama_weights(
        layers,
        norm,
        tied=tied,
        expert_names=("w1", "w3", "w2"),
        moe_parts=("block_sparse_moe", "mlp"),
    )
    return assemble(read, sizes, layers, norm, weights, tied=tied)
