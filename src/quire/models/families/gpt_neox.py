"""GPT-NeoX and Pythia: parallel residual, partial rotation, q, k and v interleaved by head."""

from dataclasses import replace

from quire.models.families.llama_style import assemble, layer_norm, pre_norm_layer, read_mlp
from quire.models.families.names import Names
from quire.models.families.reader import Reader
from quire.models.families.rope import read_rope
from quire.models.families.sizes import read_sizes
from quire.models.recipe import Recipe

NAMES = Names(
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


def recipe(read: Reader) -> Recipe:
    """Of a GPTNeoXForCausalLM."""
    read = read.using(rope_theta="rotary_emb_base", partial_rotary_factor="rotary_pct")
    sizes, norm = read_sizes(read), layer_norm(read)
    attention = sizes.attention(
        read_rope(read, sizes, rotary_fraction=0.25), bias=read.boolean("attention_bias", True)
    )
    layer = replace(
        pre_norm_layer(attention, read_mlp(read, activation="gelu", gated=False, bias=True), norm),
        parallel=read.boolean("use_parallel_residual", True),
    )
    return assemble(read, sizes, [layer] * sizes.num_layers, norm, names=NAMES)
