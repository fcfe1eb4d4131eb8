"""OPT and Galactica: learned positions, LayerNorm, biases; opt-350m norms after the sublayers."""

from quire.models.families.llama_style import assemble
from quire.models.families.names import Names
from quire.models.families.reader import Reader
from quire.models.families.sizes import read_sizes
from quire.models.recipe import (
    EmbeddingRecipe,
    HeadRecipe,
    LayerRecipe,
    MlpRecipe,
    NormRecipe,
    Recipe,
    SublayerRecipe,
)

# The first two rows of OPT's position table belong to padding.
POSITION_OFFSET = 2

NAMES = Names(
    base="model.decoder",
    out="self_attn.out_proj",
    up=("fc1",),
    down="fc2",
    norms={
        "attention_norm": "self_attn_layer_norm",
        "attention_residual_norm": "self_attn_layer_norm",
        "mlp_norm": "final_layer_norm",
        "mlp_residual_norm": "final_layer_norm",
    },
    final_norm="final_layer_norm",
    prefixes=("model.", "decoder."),
)


def recipe(read: Reader) -> Recipe:
    """Of an OPTForCausalLM."""
    sizes = read_sizes(read)
    bias = read.boolean("enable_bias", True)
    affine = read.boolean("layer_norm_elementwise_affine", True)
    norm = NormRecipe("layer", eps=1e-5, bias=affine, affine=affine)
    before = read.boolean("do_layer_norm_before", True)
    place = SublayerRecipe(before=norm) if before else SublayerRecipe(after_residual=norm)
    mlp = MlpRecipe(
        read.integer("ffn_dim"),
        read.activation("activation_function", "relu"),
        gated=False,
        bias=bias,
    )
    layer = LayerRecipe(sizes.attention(None, bias=bias), place, mlp, place)
    final = before and not read.boolean("_remove_final_layer_norm", False)
    return assemble(
        read,
        sizes,
        [layer] * sizes.num_layers,
        norm if final else None,
        names=NAMES,
        embedding=EmbeddingRecipe(
            read.integer("word_embed_proj_dim", sizes.hidden),
            num_positions=sizes.max_position,
            position_offset=POSITION_OFFSET,
        ),
        head=HeadRecipe(tied=True),
    )
