"""Qwen3-MoE: Qwen3 with routed experts in some or all layers."""

from collections.abc import Mapping
from typing import Any

from quire.models.families.llama_style import assemble, llama_weights, read_sizes, rms_norm
from quire.models.families.reader import Reader
from quire.models.families.rope import read_rope
from quire.models.recipe import (
    AttentionRecipe,
    LayerRecipe,
    MlpRecipe,
    MoeRecipe,
    Recipe,
    SublayerRecipe,
)


def recipe(config: Mapping[str, Any]) -> Recipe:
    """From the parsed config.json of a Qwen3MoeForCausalLM."""
    read = Reader(config, "Qwen3MoeForCausalLM")
    sizes = read_sizes(read, num_kv_heads=4, max_position=32768)
    norm = rms_norm(read, 1e-6)
    bias = read.boolean("attention_bias", False)
    sliding = read.boolean("use_sliding_window", False)
    attention = AttentionRecipe(
        sizes.num_heads,
        sizes.num_kv_heads,
        sizes.head_dim,
        scale=sizes.head_dim**-0.5,
        window=read.integer("sliding_window", 4096) if sliding else None,
        rope=read_rope(read, sizes.head_dim, sizes.max_position),
        qkv_bias=bias,
        out_bias=bias,
        qk_norm=norm,
    )
    layers = [
        LayerRecipe(attention, SublayerRecipe(norm), mlp, SublayerRecipe(norm))
        for mlp in _mlps(read, sizes.num_layers)
    ]
    tied = read.boolean("tie_word_embeddings", False)
    weights = llama_weights(layers, norm, tied=tied)
    return assemble(read, sizes, layers, norm, weights, tied=tied)


def _mlps(read: Reader, num_layers: int) -> list[MlpRecipe | MoeRecipe]:
    """Experts in every `decoder_sparse_step`-th layer that `mlp_only_layers` does not name."""
    activation = read.activation("hidden_act", "silu")
    dense_layers = read.integers("mlp_only_layers") or ()
    step = read.integer("decoder_sparse_step", 1)
    # transformers 5 writes either name.
    count = "num_experts" if read.has("num_experts") else "num_local_experts"
    num_experts = read.integer(count, 128, low=0)
    routed = [
        num_experts > 0 and i not in dense_layers and (i + 1) % step == 0 for i in range(num_layers)
    ]
    made: list[MlpRecipe | MoeRecipe] = []
    for is_routed in routed:
        if not is_routed:
            made.append(MlpRecipe(read.integer("intermediate_size"), activation))
            continue
        made.append(
            MoeRecipe(
                num_experts,
                top_k=read.integer("num_experts_per_tok", 8),
                size=read.integer("moe_intermediate_size"),
                activation=activation,
                renormalize=read.boolean("norm_topk_prob", False),
            )
        )
    return made
