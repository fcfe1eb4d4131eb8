"""GPT-2, GPT-NeoX and OPT: LayerNorm, biases, and a plain MLP."""

from dataclasses import replace

from quire.models.families.llama_style import assemble, layer_norm, pre_norm_layer, read_mlp
from quire.models.families.names import Names
from quire.models.families.reader import Reader
from quire.models.families.rope import read_rope
from quire.models.families.sizes import Sizes
from quire.models.recipe import (
    EmbeddingRecipe,
    HeadRecipe,
    LayerRecipe,
    MlpRecipe,
    NormRecipe,
    Recipe,
    SublayerRecipe,
)

GPT2_NAMES = Names(
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


def gpt2(read: Reader) -> Recipe:
    """GPT-2: learned positions, LayerNorm, weights stored as [in, out] (Conv1D)."""
    read = read.using(
        hidden_size="n_embd",
        num_attention_heads="n_head",
        num_hidden_layers="n_layer",
        max_position_embeddings="n_positions",
        layer_norm_eps="layer_norm_epsilon",
    )
    read.expect("add_cross_attention", False)
    sizes, norm = Sizes(read, max_position=1024), layer_norm(read)
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
        names=GPT2_NAMES,
        embedding=EmbeddingRecipe(sizes.hidden, num_positions=sizes.max_position),
        head=HeadRecipe(tied=True),
    )


def _scales(read: Reader, num_layers: int, usual: float) -> list[float]:
    scale = usual if read.boolean("scale_attn_weights", True) else 1.0
    by_layer = read.boolean("scale_attn_by_inverse_layer_idx", False)
    return [scale / (i + 1) if by_layer else scale for i in range(num_layers)]


GPT_NEOX_NAMES = Names(
    base="gpt_neox",
    embedding="embed_in",
    qkv=("attention.query_key_value",),
    heads_interleaved=True,
    out="attention.dense",
    up=("mlp.dense_h_to_4h",),
    down="mlp.dense_4h_to_h",
    final_norm="final_layer_norm",
    heads=("embed_out", "lm_head"),  # embed_out before transformers 5
    ignored=(r"\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)$",),
)


def gpt_neox(read: Reader) -> Recipe:
    """GPT-NeoX and Pythia: parallel residual, partial rotation, q, k and v interleaved by head."""
    read = read.using(rope_theta="rotary_emb_base", partial_rotary_factor="rotary_pct")
    sizes, norm = Sizes(read), layer_norm(read)
    attention = sizes.attention(
        read_rope(read, sizes, rotary_fraction=0.25), bias=read.boolean("attention_bias", True)
    )
    layer = replace(
        pre_norm_layer(attention, read_mlp(read, activation="gelu", gated=False, bias=True), norm),
        parallel=read.boolean("use_parallel_residual", True),
    )
    return assemble(read, sizes, layer, norm, names=GPT_NEOX_NAMES)


# The first two rows of OPT's position table belong to padding.
POSITION_OFFSET = 2

OPT_NAMES = Names(
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


def opt(read: Reader) -> Recipe:
    """OPT and Galactica: learned positions; opt-350m has its norms after the sublayers."""
    sizes = Sizes(read)
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
        layer,
        norm if final else None,
        names=OPT_NAMES,
        embedding=EmbeddingRecipe(
            read.integer("word_embed_proj_dim", sizes.hidden),
            num_positions=sizes.max_position,
            position_offset=POSITION_OFFSET,
        ),
        head=HeadRecipe(tied=True),
    )
