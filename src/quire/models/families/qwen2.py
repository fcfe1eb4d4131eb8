"""Qwen2 and Qwen2.5: Llama with biases on q, k and v, and a window over the upper layers."""

from dataclasses import replace

from quire.models.families.llama_style import (
    FULL,
    SLIDING,
    assemble,
    layer_windows,
    pre_norm_layer,
    read_mlp,
    rms_norm,
    with_windows,
)
from quire.models.families.reader import Reader
from quire.models.families.rope import read_rope
from quire.models.families.sizes import read_sizes
from quire.models.recipe import Recipe


def recipe(read: Reader) -> Recipe:
    """Of a Qwen2ForCausalLM."""
    sizes, norm = read_sizes(read, max_position=32768), rms_norm(read, 1e-6)
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
