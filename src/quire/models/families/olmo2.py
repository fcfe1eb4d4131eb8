"""OLMo 2: norms after the sublayers, and over the whole of q and k."""

from dataclasses import replace

from quire.models.families.llama_style import assemble, read_mlp, rms_norm
from quire.models.families.names import Names
from quire.models.families.reader import Reader
from quire.models.families.rope import read_rope
from quire.models.families.sizes import read_sizes
from quire.models.recipe import LayerRecipe, Recipe, SublayerRecipe

NAMES = Names(
    norms={
        "attention_after_norm": "post_attention_layernorm",
        "mlp_after_norm": "post_feedforward_layernorm",
    }
)


def recipe(read: Reader) -> Recipe:
    """Of an Olmo2ForCausalLM."""
    sizes, norm = read_sizes(read), rms_norm(read, 1e-5)
    attention = replace(
        sizes.attention(read_rope(read, sizes), bias=read.boolean("attention_bias", False)),
        qk_norm=norm,
        qk_norm_scope="all",
    )
    place = SublayerRecipe(after=norm)
    layers = [LayerRecipe(attention, place, read_mlp(read), place)] * sizes.num_layers
    return assemble(read, sizes, layers, norm, names=NAMES)
