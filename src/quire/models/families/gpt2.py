"""GPT-2: learned positions, LayerNorm, weights stored as [in, out] (Conv1D)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from quire.models.families.names import WeightTable
from quire.models.families.reader import Reader
from quire.models.recipe import (
    AttentionRecipe,
    EmbeddingRecipe,
    HeadRecipe,
    LayerRecipe,
    MlpRecipe,
    NormRecipe,
    Recipe,
    SublayerRecipe,
    WeightMap,
)


def recipe(config: Mapping[str, Any]) -> Recipe:
    """From the parsed config.json of a GPT2LMHeadModel."""
    read = Reader(config, "GPT2LMHeadModel")
    read.expect("add_cross_attention", False)
    hidden, heads = read.integer("n_embd"), read.integer("n_head")
    if hidden % heads:
        raise read.fail(f"'n_embd' ({hidden}) is not a multiple of 'n_head' ({heads})")
    norm = NormRecipe("layer", read.number("layer_norm_epsilon", 1e-5), bias=True)
    place = SublayerRecipe(before=norm)
    mlp = MlpRecipe(
        read.integer("n_inner", 4 * hidden),
        read.activation("activation_function", "gelu_new"),
        gated=False,
        bias=True,
    )
    positions = read.integer("n_positions", 1024)
    made = Recipe(
        architecture=read.architecture,
        vocab_size=read.integer("vocab_size"),
        hidden_size=hidden,
        max_position=positions,
        embedding=EmbeddingRecipe(hidden, num_positions=positions),
        layers=tuple(
            LayerRecipe(
                AttentionRecipe(
                    heads, heads, hidden // heads, scale=scale, qkv_bias=True, out_bias=True
                ),
                place,
                mlp,
                place,
            )
            for scale in _scales(read, read.integer("n_layer"), hidden // heads)
        ),
        final_norm=norm,
        head=HeadRecipe(read.boolean("tie_word_embeddings", True)),
        weights=WeightMap({}),
        dtype=read.dtype(),
    )
    return replace(made, weights=_weights(made))


def _scales(read: Reader, num_layers: int, head_dim: int) -> list[float]:
    """Each layer's attention scale."""
    scale = head_dim**-0.5 if read.boolean("scale_attn_weights", True) else 1.0
    by_layer = read.boolean("scale_attn_by_inverse_layer_idx", False)
    return [scale / (i + 1) if by_layer else scale for i in range(num_layers)]


def _weights(made: Recipe) -> WeightMap:
    table = WeightTable()
    table.linear("transformer.wte", "embedding", bias=False)
    table.linear("transformer.wpe", "positions", bias=False)
    for i, layer in enumerate(made.layers):
        source, param = f"transformer.h.{i}", f"layers.{i}"
        for theirs, ours in (
            ("attn.c_attn", "attention.qkv"),
            ("attn.c_proj", "attention.out"),
            ("mlp.c_fc", "mlp.up"),
            ("mlp.c_proj", "mlp.down"),
        ):
            table.linear(f"{source}.{theirs}", f"{param}.{ours}", True, transform="transpose")
        table.norm(f"{source}.ln_1", f"{param}.attention_norm", layer.attention_place.before)
        table.norm(f"{source}.ln_2", f"{param}.mlp_norm", layer.mlp_place.before)
    table.norm("transformer.ln_f", "final_norm", made.final_norm)
    table.head("lm_head", made.head.tied)
    return table.build("transformer.", ignored=(r"\.attn\.(bias|masked_bias)$",))
