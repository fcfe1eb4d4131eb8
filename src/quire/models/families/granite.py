"""Granite: Llama with multipliers on embedding, attention, residual and logits."""

from dataclasses import replace

from quire.models.families.llama_style import assemble, read_mlp, rms_norm
from quire.models.families.reader import Reader
from quire.models.families.rope import read_rope
from quire.models.families.sizes import read_sizes
from quire.models.recipe import EmbeddingRecipe, HeadRecipe, LayerRecipe, Recipe, SublayerRecipe


def recipe(read: Reader) -> Recipe:
    """Of a GraniteForCausalLM."""
    sizes, norm = read_sizes(read), rms_norm(read, 1e-6)
    attention = replace(
        sizes.attention(read_rope(read, sizes), bias=read.boolean("attention_bias", False)),
        scale=read.number("attention_multiplier", 1.0),
    )
    mlp = read_mlp(read, bias=read.boolean("mlp_bias", False))
    place = SublayerRecipe(norm, multiplier=read.number("residual_multiplier", 1.0))
    return assemble(
        read,
        sizes,
        [LayerRecipe(attention, place, mlp, place)] * sizes.num_layers,
        norm,
        embedding=EmbeddingRecipe(sizes.hidden, read.number("embedding_multiplier", 1.0)),
        head=HeadRecipe(tied=False, multiplier=1.0 / read.positive("logits_scaling", 1.0)),
    )
