"""Llama 2, 3 and 3.x."""

from quire.models.families.llama_style import assemble, pre_norm_layer, read_mlp, rms_norm
from quire.models.families.reader import Reader
from quire.models.families.rope import read_rope
from quire.models.families.sizes import read_sizes
from quire.models.recipe import Recipe


def recipe(read: Reader) -> Recipe:
    """Of a LlamaForCausalLM."""
    sizes, norm = read_sizes(read), rms_norm(read, 1e-6)
    attention = sizes.attention(read_rope(read, sizes), bias=read.boolean("attention_bias", False))
    mlp = read_mlp(read, bias=read.boolean("mlp_bias", False))
    layer = pre_norm_layer(attention, mlp, norm)
    return assemble(read, sizes, [layer] * sizes.num_layers, norm)
