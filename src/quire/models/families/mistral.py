"""Mistral: Llama with a sliding window over every layer."""

from quire.models.families.llama_style import assemble, pre_norm_layer, read_mlp, rms_norm
from quire.models.families.reader import Reader
from quire.models.families.rope import read_rope
from quire.models.families.sizes import read_sizes
from quire.models.recipe import Recipe


def recipe(read: Reader) -> Recipe:
    """Of a MistralForCausalLM."""
    sizes = read_sizes(read, num_kv_heads=8, max_position=4096 * 32)
    norm = rms_norm(read, 1e-6)
    window = read.optional_integer("sliding_window")
    if "sliding_window" not in read.config:
        window = 4096  # the first release's; null says full attention
    attention = sizes.attention(read_rope(read, sizes), window=window)
    layer = pre_norm_layer(attention, read_mlp(read), norm)
    return assemble(read, sizes, [layer] * sizes.num_layers, norm)
