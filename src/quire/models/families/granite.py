"""Granite: Llama with multipliers on embedding, attention, residual and logits."""

from collections.abc import Mapping
from typing import Any

from quire.models.families.llama_style import assemble, llama_weights, read_sizes, rms_norm
from quire.models.families.reader import Reader
from quire.models.families.rope import read_rope
from quire.models.recipe import (
    AttentionRecipe,
    EmbeddingRecipe,
    HeadRecipe,
    LayerRecipe,
    MlpRecipe,
    Recipe,
    SublayerRecipe,
)


def recipe(config: Mapping[str, Any]) -> Recipe:
    """From the parsed config.json of a GraniteForCausalLM."""
    read = Reader(config, "GraniteForCausalLM")
    sizes = read_sizes(read)
    norm = rms_norm(read, 1e-6)
    bias = read.boolean("attention_bias", False)
    attention = AttentionRecipe(
        sizes.num_heads,
        sizes.num_kv_heads,
        sizes.head_dim,
        scale=read.number("attention_multiplier", 1.0),
        rope=read_rope(read, sizes.head_dim, sizes.max_position),
        qkv_bias=bias,
        out_bias=bias,
    )
    mlp = MlpRecipe(
        read.integer("intermediate_size"),
        read.activation("hidden_act", "silu"),
        bias=read.boolean("mlp_bias", False),
    )
    place = SublayerRecipe(norm, multiplier=read.number("residual_multiplier", 1.0))
    layers = (LayerRecipe(attention, place, mlp, place),) * sizes.num_layers
    tied = read.boolean("tie_word_embeddings", False)
    return assemble(
        read,
        sizes,
        layers,
        norm,
        llama_weights(layers, norm, tied=tied),
        tied=tied,
        embedding=EmbeddingRecipe(sizes.hidden, read.number("embedding_multiplier", 1.0)),
        head=HeadRecipe(tied, multiplier=1.0 / read.number("logits_scaling", 1.0)),
    )
