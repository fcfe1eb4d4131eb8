"""Qwen 2, 2.5, 3 and 3-MoE."""

from dataclasses import replace

from quire.models.families.llama_style import (
    FULL,
    SLIDING,
    assemble,
    layer_windows,
    pre_norm_layer,
    read_experts,
    read_mlp,
    rms_norm,
    with_windows,
)
from quire.models.families.reader import Reader
from quire.models.families.rope import read_rope
from quire.models.families.sizes import Sizes
from quire.models.recipe import MlpRecipe, MoeRecipe, Recipe


def qwen2(read: Reader) -> Recipe:
    """Qwen2 and Qwen2.5: Llama with biases on q, k and v, and a window over the upper layers."""
    sizes, norm = Sizes(read, max_position=32768), rms_norm(read, 1e-6)
    attention = replace(sizes.attention(read_rope(read, sizes)), qkv_bias=True)
    layer = pre_norm_layer(attention, read_mlp(read), norm)
    return assemble(read, sizes, with_windows(layer, qwen_windows(read, sizes.num_layers)), norm)


def qwen_windows(read: Reader, num_layers: int) -> tuple[int | None, ...]:
    """With `use_sliding_window`, layers from `max_window_layers` on slide."""
    if not read.boolean("use_sliding_window", False):
        return (None,) * num_layers
    first = read.integer("max_window_layers", 28, low=0)
    default = [SLIDING if i >= first else FULL for i in range(num_layers)]
    return layer_windows(read, num_layers, read.integer("sliding_window", 4096), default)


def qwen3(read: Reader) -> Recipe:
    """Qwen3: Qwen2 with a norm on each head's q and k instead of biases."""
    sizes = Sizes(read, head_dim=128, max_position=32768)
    norm = rms_norm(read, 1e-6)
    bias = read.boolean("attention_bias", False)
    attention = replace(sizes.attention(read_rope(read, sizes), bias=bias), qk_norm=norm)
    layer = pre_norm_layer(attention, read_mlp(read), norm)
    return assemble(read, sizes, with_windows(layer, qwen_windows(read, sizes.num_layers)), norm)


def qwen3_moe(read: Reader) -> Recipe:
    """Qwen3-MoE: Qwen3 with routed experts in some or all layers."""
    sizes = Sizes(read, num_kv_heads=4, max_position=32768)
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
