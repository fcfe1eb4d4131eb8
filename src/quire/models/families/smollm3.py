"""SmolLM3: Llama with layers that have no rope."""

from collections.abc import Mapping
from typing import Any

from quire.models.families.llama_style import (
    FULL,
    SLIDING,
    assemble,
    layer_windows,
    llama_weights,
    read_sizes,
    rms_norm,
)
from quire.models.families.reader import Reader
from quire.models.families.rope import read_rope
from quire.models.recipe import AttentionRecipe, LayerRecipe, MlpRecipe, Recipe, SublayerRecipe


def recipe(config: Mapping[str, Any]) -> Recipe:
    """From the parsed config.json of a SmolLM3ForCausalLM."""
    read = Reader(config, "SmolLM3ForCausalLM")
    sizes = read_sizes(read, num_kv_heads=4, max_position=32768)
    norm = rms_norm(read, 1e-6)
    bias = read.boolean("attention_bias", False)
    rope = read_rope(read, sizes.head_dim, sizes.max_position, theta=2e6)
    mlp = MlpRecipe(
        read.integer("intermediate_size"),
        read.activation("hidden_act", "silu"),
        bias=read.boolean("mlp_bias", False),
    )
    has_rope = _has_rope(read, sizes.num_layers)
    layers = [
        LayerRecipe(
            AttentionRecipe(
                sizes.num_heads,
                sizes.num_kv_heads,
                sizes.head_dim,
                scale=sizes.head_dim**-0.5,
                window=window,
                rope=rope if rotates else None,
                qkv_bias=bias,
                out_bias=bias,
            ),
            SublayerRecipe(norm),
            mlp,
            SublayerRecipe(norm),
        )
        for rotates, window in zip(has_rope, _windows(read, has_rope), strict=True)
    ]
    tied = read.boolean("tie_word_embeddings", True)
    weights = llama_weights(layers, norm, tied=tied)
    return assemble(read, sizes, layers, norm, weights, tied=tied)


def _has_rope(read: Reader, num_layers: int) -> list[bool]:
    """`no_rope_layers` holds a 1 for a layer with rope; by default every fourth has none."""
    given = read.integers("no_rope_layers", num_layers)
    if given is not None:
        return [bool(value) for value in given]
    interval = read.integer("no_rope_layer_interval", 4)
    return [(i + 1) % interval != 0 for i in range(num_layers)]


def _windows(read: Reader, has_rope: list[bool]) -> tuple[int | None, ...]:
    """With `use_sliding_window`, layers without rope slide unless `layer_types` says otherwise."""
    window = read.optional_integer("sliding_window")
    if window is None or not read.boolean("use_sliding_window", False):
        return (None,) * len(has_rope)
    default = [FULL if rotates else SLIDING for rotates in has_rope]
    return layer_windows(read, len(has_rope), window, default)
