"""StarCoder2: Llama's attention with LayerNorm, biases and a plain MLP."""

from collections.abc import Mapping
from typing import Any

from quire.models.families.llama_style import PRE_NORMS, assemble, put_layer_norms, read_sizes
from quire.models.families.names import WeightTable
from quire.models.families.reader import Reader
from quire.models.families.rope import read_rope
from quire.models.recipe import (
    AttentionRecipe,
    LayerRecipe,
    MlpRecipe,
    NormRecipe,
    Recipe,
    SublayerRecipe,
    WeightMap,
)


def recipe(config: Mapping[str, Any]) -> Recipe:
    """From the parsed config.json of a Starcoder2ForCausalLM."""
    read = Reader(config, "Starcoder2ForCausalLM")
    sizes = read_sizes(read, num_kv_heads=2, max_position=4096)
    norm = NormRecipe("layer", read.number("norm_epsilon", 1e-5), bias=True)
    bias = read.boolean("use_bias", True)
    attention = AttentionRecipe(
        sizes.num_heads,
        sizes.num_kv_heads,
        sizes.head_dim,
        scale=sizes.head_dim**-0.5,
        window=read.optional_integer("sliding_window"),
        rope=read_rope(read, sizes.head_dim, sizes.max_position),
        qkv_bias=bias,
        out_bias=bias,
    )
    mlp = MlpRecipe(
        read.integer("intermediate_size"),
        read.activation("hidden_act", "gelu_pytorch_tanh"),
        gated=False,
        bias=bias,
    )
    layers = (
        LayerRecipe(attention, SublayerRecipe(norm), mlp, SublayerRecipe(norm)),
    ) * sizes.num_layers
    tied = read.boolean("tie_word_embeddings", True)
    weights = _weights(layers, norm, tied, bias)
    return assemble(read, sizes, layers, norm, weights, tied=tied)


def _weights(
    layers: tuple[LayerRecipe, ...], norm: NormRecipe, tied: bool, bias: bool
) -> WeightMap:
    table = WeightTable()
    table.linear("model.embed_tokens", "embedding", bias=False)
    for i, layer in enumerate(layers):
        source, param = f"model.layers.{i}", f"layers.{i}"
        table.separate_qkv(
            f"{source}.self_attn", f"{param}.attention", layer.attention, out="o_proj"
        )
        table.linear(f"{source}.mlp.c_fc", f"{param}.mlp.up", bias)
        table.linear(f"{source}.mlp.c_proj", f"{param}.mlp.down", bias)
        put_layer_norms(table, source, param, layer, PRE_NORMS)
    table.norm("model.norm", "final_norm", norm)
    table.head("lm_head", tied)
    return table.build("model.")
