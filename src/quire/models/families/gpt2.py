"""GPT-2: learned positions, LayerNorm, weights stored as [in, out] (Conv1D)."""

from dataclasses import replace

from quire.models.families.llama_style import assemble, layer_norm, pre_norm_layer
from quire.models.families.names import Names
from quire.models.families.reader import Reader
from quire.models.families.sizes import read_sizes
from quire.models.recipe import EmbeddingRecipe, HeadRecipe, MlpRecipe, Recipe

NAMES = Names(
    base="transformer",
    embedding="wte",
    positions="wpe",
    layers="h",
    qkv=("attn.c_attn",),
    out="attn.c_proj",
    up=("mlp.c_fc",),
    down="mlp.c_proj",
    norms={"attention_norm": "ln_1", "mlp_norm": "ln_2"},
    final_norm="ln_f",
    transposed=True,
    ignored=(r"\.attn\.(bias|masked_bias)$",),
)


def recipe(read: Reader) -> Recipe:
    """Of a GPT2LMHeadModel."""
    read = read.using(
        hidden_size="n_embd",
        num_attention_heads="n_head",
        num_hidden_layers="n_layer",
        max_position_embeddings="n_positions",
        layer_norm_eps="layer_norm_epsilon",
    )
    read.expect("add_cross_attention", False)
    sizes, norm = read_sizes(read, max_position=1024), layer_norm(read)
    mlp = MlpRecipe(
        read.integer("n_inner", 4 * sizes.hidden),
        read.activation("activation_function", "gelu_new"),
        gated=False,
        bias=True,
    )
    attention = sizes.attention(None, bias=True)
    return assemble(
        read,
        sizes,
        [
            pre_norm_layer(replace(attention, scale=scale), mlp, norm)
            for scale in _scales(read, sizes.num_layers, attention.scale)
        ],
        norm,
        names=NAMES,
        embedding=EmbeddingRecipe(sizes.hidden, num_positions=sizes.max_position),
        head=HeadRecipe(tied=True),
    )


def _scales(read: Reader, num_layers: int, usual: float) -> list[float]:
    """Each layer's attention scale."""
    scale = usual if read.boolean("scale_attn_weights", True) else 1.0
    by_layer = read.boolean("scale_attn_by_inverse_layer_idx", False)
    return [scale / (i + 1) if by_layer else scale for i in range(num_layers)]
