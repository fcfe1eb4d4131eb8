"""Mixtral: Mistral with routed experts in every layer."""

from quire.models.families.llama_style import assemble, pre_norm_layer, read_experts, rms_norm
from quire.models.families.names import Names
from quire.models.families.reader import Reader
from quire.models.families.rope import read_rope
from quire.models.families.sizes import read_sizes
from quire.models.recipe import Recipe

NAMES = Names(experts=("w1", "w3", "w2"), moe=("block_sparse_moe", "mlp"))


def recipe(read: Reader) -> Recipe:
    """Of a MixtralForCausalLM."""
    sizes = read_sizes(read, num_kv_heads=8, max_position=4096 * 32)
    norm = rms_norm(read, 1e-5)
    attention = sizes.attention(
        read_rope(read, sizes, theta=1e6), window=read.optional_integer("sliding_window")
    )
    experts = read_experts(
        read, count="num_local_experts", num_experts=8, top_k=2, size="intermediate_size"
    )
    layer = pre_norm_layer(attention, experts, norm)
    return assemble(read, sizes, [layer] * sizes.num_layers, norm, names=NAMES)
