"""OPT and Galactica: learned positions, LayerNorm, biases; opt-350m norms after the sublayers."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from quire.models.families.llama_style import put_layer_norms
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

# The first two rows of OPT's position table belong to padding.
POSITION_OFFSET = 2

NORMS = {
    "attention.before": "self_attn_layer_norm",
    "attention.after_residual": "self_attn_layer_norm",
    "mlp.before": "final_layer_norm",
    "mlp.after_residual": "final_layer_norm",
}


def recipe(config: Mapping[str, Any]) -> Recipe:
    """From the parsed config.json of an OPTForCausalLM."""
    read = Reader(config, "OPTForCausalLM")
    hidden, heads = read.integer("hidden_size"), read.integer("num_attention_heads")
    if hidden % heads:
        raise read.fail(
            f"'hidden_size' ({hidden}) is not a multiple of 'num_attention_heads' ({heads})"
        )
    bias = read.boolean("enable_bias", True)
    affine = read.boolean("layer_norm_elementwise_affine", True)
    norm = NormRecipe("layer", eps=1e-5, bias=affine, affine=affine)
    before = read.boolean("do_layer_norm_before", True)
    place = SublayerRecipe(before=norm) if before else SublayerRecipe(after_residual=norm)
    layer = LayerRecipe(
        AttentionRecipe(
            heads,
            heads,
            hidden // heads,
            scale=(hidden // heads) ** -0.5,
            qkv_bias=bias,
            out_bias=bias,
        ),
        place,
        MlpRecipe(
            read.integer("ffn_dim"),
            read.activation("activation_function", "relu"),
            gated=False,
            bias=bias,
        ),
        place,
    )
    final = before and not read.boolean("_remove_final_layer_norm", False)
    positions = read.integer("max_position_embeddings", 2048)
    made = Recipe(
        architecture=read.architecture,
        vocab_size=read.integer("vocab_size"),
        hidden_size=hidden,
        max_position=positions,
        embedding=EmbeddingRecipe(
            read.integer("word_embed_proj_dim", hidden),
            num_positions=positions,
            position_offset=POSITION_OFFSET,
        ),
        layers=(layer,) * read.integer("num_hidden_layers"),
        final_norm=norm if final else None,
        head=HeadRecipe(read.boolean("tie_word_embeddings", True)),
        weights=WeightMap({}),
        dtype=read.dtype(),
    )
    return replace(made, weights=_weights(made))


def _weights(made: Recipe) -> WeightMap:
    table = WeightTable()
    base = "model.decoder"
    table.linear(f"{base}.embed_tokens", "embedding", bias=False)
    table.linear(f"{base}.embed_positions", "positions", bias=False)
    if made.embedding.dim != made.hidden_size:
        table.linear(f"{base}.project_in", "project_in", bias=False)
        table.linear(f"{base}.project_out", "project_out", bias=False)
    for i, layer in enumerate(made.layers):
        source, param = f"{base}.layers.{i}", f"layers.{i}"
        table.separate_qkv(
            f"{source}.self_attn", f"{param}.attention", layer.attention, out="out_proj"
        )
        bias = layer.attention.out_bias
        table.linear(f"{source}.fc1", f"{param}.mlp.up", bias)
        table.linear(f"{source}.fc2", f"{param}.mlp.down", bias)
        put_layer_norms(table, source, param, layer, NORMS)
    table.norm(f"{base}.final_layer_norm", "final_norm", made.final_norm)
    table.head("lm_head", made.head.tied)
    return table.build("model.", "decoder.", "model.decoder.")
