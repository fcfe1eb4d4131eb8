"""Phi-3 and Phi-4: Llama with fused projections, partial rotation and longrope."""

from collections.abc import Mapping
from typing import Any

from quire.models.families.llama_style import (
    PRE_NORMS,
    assemble,
    put_layer_norms,
    read_sizes,
    rms_norm,
)
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
    """From the parsed config.json of a Phi3ForCausalLM."""
    read = Reader(config, "Phi3ForCausalLM")
    sizes = read_sizes(read, max_position=4096)
    norm = rms_norm(read, 1e-5)
    rope = read_rope(
        read,
        sizes.head_dim,
        sizes.max_position,
        rotary_fraction=1.0,
        original_max_position=4096,
        renamed={"su": "longrope", "yarn": "longrope"},  # the first releases' words for it
    )
    attention = AttentionRecipe(
        sizes.num_heads,
        sizes.num_kv_heads,
        sizes.head_dim,
        scale=sizes.head_dim**-0.5,
        window=read.optional_integer("sliding_window"),
        rope=rope,
    )
    mlp = MlpRecipe(read.integer("intermediate_size"), read.activation("hidden_act", "silu"))
    layers = (
        LayerRecipe(attention, SublayerRecipe(norm), mlp, SublayerRecipe(norm)),
    ) * sizes.num_layers
    tied = read.boolean("tie_word_embeddings", False)
    return assemble(read, sizes, layers, norm, _weights(layers, norm, tied), tied=tied)


def _weights(layers: tuple[LayerRecipe, ...], norm: NormRecipe, tied: bool) -> WeightMap:
    table = WeightTable()
    table.linear("model.embed_tokens", "embedding", bias=False)
    for i, layer in enumerate(layers):
        source, param = f"model.layers.{i}", f"layers.{i}"
        for theirs, ours in (
            ("self_attn.qkv_proj", "attention.qkv"),
            ("self_attn.o_proj", "attention.out"),
            ("mlp.gate_up_proj", "mlp.gate_up"),
            ("mlp.down_proj", "mlp.down"),
        ):
            table.linear(f"{source}.{theirs}", f"{param}.{ours}", bias=False)
        put_layer_norms(table, source, param, layer, PRE_NORMS)
    table.norm("model.norm", "final_norm", norm)
    table.head("lm_head", tied)
    return table.build("model.")
