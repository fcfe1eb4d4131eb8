"""Qwen3-MoE: Qwen3 with routed experts in some or all layers."""

from dataclasses import replace

from quire.models.families.llama_style import (
    assemble,
    pre_norm_layer,
    read_experts,
    read_mlp,
    rms_norm,
)
from quire.models.families.reader import Reader
from quire.models.families.rope import read_rope
from quire.models.families.sizes import read_sizes
from quire.models.recipe import MlpRecipe, MoeRecipe, Recipe


def recipe(read: Reader) -> Recipe:
    """Of a Qwen3MoeForCausalLM."""
    sizes = read_sizes(read, num_kv_heads=4, max_position=32768)
    norm = rms_norm(read, 1e-6)
    sliding = read.boolean("use_sliding_window", False)
    attention = sizes.attention(
        read_rope(read, sizes),
        window=read.integer("sliding_window", 4096) if sliding else None,
        bias=read.boolean("attention_bias", False),
    )
    attention = replace(attention, qk_norm=norm)
    mlps = _mlps(read, sizes.num_layers)
    return assemble(read, sizes, [pre_norm_layer(attention, mlp, norm) for mlp in mlps], norm)


def _mlps(read: Reader, num_layers: int) -> list[MlpRecipe | MoeRecipe]:
    """Experts in every `decoder_sparse_step`-th layer that `mlp_only_layers` does not name."""
    dense = read.integers("mlp_only_layers") or ()
    step = read.integer("decoder_sparse_step", 1)
    # transformers 5 writes either name.
    count = "num_experts" if read.has("num_experts") else "num_local_experts"
    any_routed = read.integer(count, 128, low=0) > 0
    return [
        _experts(read, count)
        if any_routed and i not in dense and (i + 1) % step == 0
        else read_mlp(read)
        for i in range(num_layers)
    ]


def _experts(read: Reader, count: str) -> MoeRecipe:
    renormalize = read.boolean("norm_topk_prob", False)
    return read_experts(
        read,
        count=count,
        num_experts=128,
        top_k=8,
        size="moe_intermediate_size",
        renormalize=renormalize,
    )
