"""Phi-3 and Phi-4: Llama with fused projections, partial rotation and longrope."""

from quire.models.families.llama_style import assemble, pre_norm_layer, read_mlp, rms_norm
from quire.models.families.names import Names
from quire.models.families.reader import Reader
from quire.models.families.rope import read_rope
from quire.models.families.sizes import read_sizes
from quire.models.recipe import Recipe

NAMES = Names(qkv=("self_attn.qkv_proj",), up=("mlp.gate_up_proj",))


def recipe(read: Reader) -> Recipe:
    """Of a Phi3ForCausalLM."""
    sizes, norm = read_sizes(read, max_position=4096), rms_norm(read, 1e-5)
    rope = read_rope(
        read,
        sizes,
        rotary_fraction=1.0,
        original_max_position=4096,
        renamed={"su": "longrope", "yarn": "longrope"},  # the first releases' words for it
    )
    attention = sizes.attention(rope, window=read.optional_integer("sliding_window"))
    layer = pre_norm_layer(attention, read_mlp(read), norm)
    return assemble(read, sizes, [layer] * sizes.num_layers, norm, names=NAMES)
