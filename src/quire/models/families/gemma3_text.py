"""Gemma 3, the text model: two ropes, a window in most layers, a norm on each head's q and k."""

from collections.abc import Mapping
from typing import Any

from quire.models.families.llama_style import (
    FULL,
    SANDWICH_NORMS,
    SLIDING,
    assemble,
    layer_windows,
    llama_weights,
    read_sizes,
)
from quire.models.families.reader import Reader
from quire.models.families.rope import rope_from_fields
from quire.models.recipe import (
    AttentionRecipe,
    EmbeddingRecipe,
    HeadRecipe,
    LayerRecipe,
    MlpRecipe,
    NormRecipe,
    Recipe,
    RopeRecipe,
    SublayerRecipe,
)


def recipe(config: Mapping[str, Any]) -> Recipe:
    """From the parsed config.json of a Gemma3ForCausalLM."""
    read = Reader(config, "Gemma3ForCausalLM")
    read.expect("use_bidirectional_attention", False)
    # transformers reads this field and never applies it; no released model sets it.
    read.expect("attn_logit_softcapping", None)
    sizes = read_sizes(
        read, vocab=262_208, num_heads=8, num_kv_heads=4, head_dim=256, max_position=131_072
    )
    norm = NormRecipe("rms", read.number("rms_norm_eps", 1e-6), weight_offset=1.0)
    bias = read.boolean("attention_bias", False)
    scale = read.number("query_pre_attn_scalar", 256) ** -0.5
    full_rope, sliding_rope = _ropes(read, sizes.head_dim, sizes.max_position)
    place = SublayerRecipe(before=norm, after=norm)
    activation = read.activation("hidden_activation", "gelu_pytorch_tanh")
    mlp = MlpRecipe(read.integer("intermediate_size"), activation)
    pattern = read.integer("sliding_window_pattern", 6)
    default = [SLIDING if (i + 1) % pattern else FULL for i in range(sizes.num_layers)]
    window = read.integer("sliding_window", 4096)
    layers = [
        LayerRecipe(
            AttentionRecipe(
                sizes.num_heads,
                sizes.num_kv_heads,
                sizes.head_dim,
                scale=scale,
                window=layer_window,
                rope=full_rope if layer_window is None else sliding_rope,
                qkv_bias=bias,
                out_bias=bias,
                qk_norm=norm,
            ),
            place,
            mlp,
            place,
        )
        for layer_window in layer_windows(read, sizes.num_layers, window, default)
    ]
    tied = read.boolean("tie_word_embeddings", True)
    return assemble(
        read,
        sizes,
        layers,
        norm,
        llama_weights(layers, norm, tied=tied, norms=SANDWICH_NORMS),
        tied=tied,
        embedding=EmbeddingRecipe(
            sizes.hidden, multiplier=sizes.hidden**0.5, round_multiplier=True
        ),
        head=HeadRecipe(tied, softcap=read.optional_number("final_logit_softcapping")),
        max_position=sizes.max_position,  # Gemma states the length after scaling
    )


def _ropes(read: Reader, head_dim: int, max_position: int) -> tuple[RopeRecipe, RopeRecipe]:
    """The ropes of full and of sliding layers; the scaling of old configs is the full one's."""
    given = read.config.get("rope_parameters") or {}
    full = {**(given.get(FULL) or {}), **(read.config.get("rope_scaling") or {})}
    sliding = dict(given.get(SLIDING) or {})
    full.setdefault("rope_theta", read.number("rope_theta", 1e6))
    sliding.setdefault("rope_theta", read.number("rope_local_base_freq", 1e4))
    return (
        rope_from_fields(read, full, head_dim, max_position),
        rope_from_fields(read, sliding, head_dim, max_position),
    )
