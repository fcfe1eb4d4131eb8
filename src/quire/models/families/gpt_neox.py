"""GPT-NeoX and Pythia: parallel residual, partial rotation, q, k and v interleaved by head."""

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
    Placement,
    Recipe,
    SublayerRecipe,
    WeightMap,
)


def recipe(config: Mapping[str, Any]) -> Recipe:
    """From the parsed config.json of a GPTNeoXForCausalLM."""
    # Its own words for the rope's base and the rotated share of a head.
    words = {"rotary_emb_base": "rope_theta", "rotary_pct": "partial_rotary_factor"}
    renamed = {new: config[old] for old, new in words.items() if old in config}
    read = Reader({**renamed, **config}, "GPTNeoXForCausalLM")
    sizes = read_sizes(read)
    norm = NormRecipe("layer", read.number("layer_norm_eps", 1e-5), bias=True)
    bias = read.boolean("attention_bias", True)
    attention = AttentionRecipe(
        sizes.num_heads,
        sizes.num_kv_heads,
        sizes.head_dim,
        scale=sizes.head_dim**-0.5,
        rope=read_rope(read, sizes.head_dim, sizes.max_position, rotary_fraction=0.25),
        qkv_bias=bias,
        out_bias=bias,
    )
    mlp = MlpRecipe(
        read.integer("intermediate_size"),
        read.activation("hidden_act", "gelu"),
        gated=False,
        bias=True,
    )
    layer = LayerRecipe(
        attention,
        SublayerRecipe(norm),
        mlp,
        SublayerRecipe(norm),
        parallel=read.boolean("use_parallel_residual", True),
    )
    layers = (layer,) * sizes.num_layers
    tied = read.boolean("tie_word_embeddings", False)
    return assemble(read, sizes, layers, norm, _weights(layers, norm, tied), tied=tied)


def _weights(layers: tuple[LayerRecipe, ...], norm: NormRecipe, tied: bool) -> WeightMap:
    table = WeightTable()
    table.linear("gpt_neox.embed_in", "embedding", bias=False)
    for i, layer in enumerate(layers):
        source, param = f"gpt_neox.layers.{i}", f"layers.{i}"
        a = layer.attention
        table.linear(
            f"{source}.attention.query_key_value",
            f"{param}.attention.qkv",
            a.qkv_bias,
            transform="split_heads_qkv",
            num_heads=a.num_heads,
        )
        table.linear(f"{source}.attention.dense", f"{param}.attention.out", a.out_bias)
        table.linear(f"{source}.mlp.dense_h_to_4h", f"{param}.mlp.up", True)
        table.linear(f"{source}.mlp.dense_4h_to_h", f"{param}.mlp.down", True)
        put_layer_norms(table, source, param, layer, PRE_NORMS)
    table.norm("gpt_neox.final_layer_norm", "final_norm", norm)
    # The head was called embed_out before transformers 5.
    for name in ("embed_out.weight", "lm_head.weight"):
        table.put(name, *(() if tied else (Placement("head.weight"),)), optional=True)
    return table.build(
        "gpt_neox.", ignored=(r"\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)$",)
    )
