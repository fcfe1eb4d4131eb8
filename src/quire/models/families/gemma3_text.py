"""Gemma 3, the text model: two ropes, a window in most layers, a norm on each head's q and k."""

from dataclasses import replace

from quire.models.families.gemma2 import assemble_gemma, gemma_layer, gemma_norm, gemma_sizes
from quire.models.families.llama_style import FULL, SLIDING, layer_windows
from quire.models.families.reader import Reader
from quire.models.families.rope import rope_from_fields
from quire.models.families.sizes import Sizes
from quire.models.recipe import Recipe, RopeRecipe


def recipe(read: Reader) -> Recipe:
    """Of a Gemma3ForCausalLM."""
    # transformers reads this field and never applies it; no released model sets it.
    read.expect("attn_logit_softcapping", None)
    sizes = gemma_sizes(read, vocab=262_208, max_position=131_072)
    full_rope, sliding_rope = _ropes(read, sizes)
    layer = gemma_layer(read, sizes, full_rope)
    full = replace(layer.attention, qk_norm=gemma_norm(read))
    pattern = read.integer("sliding_window_pattern", 6)
    default = [SLIDING if (i + 1) % pattern else FULL for i in range(sizes.num_layers)]
    window = read.integer("sliding_window", 4096)
    sliding = replace(full, window=window, rope=sliding_rope)
    windows = layer_windows(read, sizes.num_layers, window, default)
    return assemble_gemma(
        read,
        sizes,
        [replace(layer, attention=full if w is None else sliding) for w in windows],
        softcap=read.optional_number("final_logit_softcapping"),
        max_position=sizes.max_position,  # Gemma states the length after scaling
    )


def _ropes(read: Reader, sizes: Sizes) -> tuple[RopeRecipe, RopeRecipe]:
    """The ropes of full and of sliding layers; the scaling of old configs is the full one's."""
    given = Reader(read.mapping("rope_parameters"), f"{read.architecture} (rope_parameters)")
    full = given.mapping(FULL) | read.mapping("rope_scaling")
    sliding = given.mapping(SLIDING)
    full.setdefault("rope_theta", read.number("rope_theta", 1e6))
    sliding.setdefault("rope_theta", read.number("rope_local_base_freq", 1e4))
    return rope_from_fields(read, full, sizes), rope_from_fields(read, sliding, sizes)
