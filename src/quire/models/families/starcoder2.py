"""StarCoder2: Llama's attention with LayerNorm, biases and a plain MLP."""

from quire.models.families.llama_style import assemble, layer_norm, pre_norm_layer, read_mlp
from quire.models.families.names import Names
from quire.models.families.reader import Reader
from quire.models.families.rope import read_rope
from quire.models.families.sizes import read_sizes
from quire.models.recipe import HeadRecipe, Recipe

NAMES = Names(up=("mlp.c_fc",), down="mlp.c_proj")


def recipe(read: Reader) -> Recipe:
    """Of a Starcoder2ForCausalLM."""
    read = read.using(layer_norm_eps="norm_epsilon")
    sizes = read_sizes(read, num_kv_heads=2, max_position=4096)
    norm, bias = layer_norm(read), read.boolean("use_bias", True)
    attention = sizes.attention(
        read_rope(read, sizes), window=read.optional_integer("sliding_window"), bias=bias
    )
    mlp = read_mlp(read, activation="gelu_pytorch_tanh", gated=False, bias=bias)
    layer = pre_norm_layer(attention, mlp, norm)
    head = HeadRecipe(tied=True)
    return assemble(read, sizes, [layer] * sizes.num_layers, norm, names=NAMES, head=head)
