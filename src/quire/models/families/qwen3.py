"""Qwen3: Qwen2 with a norm on each head's q and k instead of biases."""

from dataclasses import replace

from quire.models.families.llama_style import (
    assemble,
    pre_norm_layer,
    read_mlp,
    rms_norm,
    with_windows,
)
from quire.models.families.qwen2 import qwen_windows
from quire.models.families.reader import Reader
from quire.models.families.rope import read_rope
from quire.models.families.sizes import read_sizes
from quire.models.recipe import Recipe


def recipe(read: Reader) -> Recipe:
    """Of a Qwen3ForCausalLM."""
    sizes = read_sizes(read, head_dim=128, max_position=32768)
    norm = rms_norm(read, 1e-6)
    bias = read.boolean("attention_bias", False)
    attention = replace(sizes.attention(read_rope(read, sizes), bias=bias), qk_norm=norm)
    layer = pre_norm_layer(attention, read_mlp(read), norm)
    return assemble(read, sizes, with_windows(layer, qwen_windows(read, sizes.num_layers)), norm)
