"""SmolLM3: Llama with layers that have no rope."""

from dataclasses import replace

from quire.models.families.llama_style import (
    FULL,
    SLIDING,
    assemble,
    layer_windows,
    pre_norm_layer,
    read_mlp,
    rms_norm,
)
from quire.models.families.reader import Reader
from quire.models.families.rope import read_rope
from quire.models.families.sizes import read_sizes
from quire.models.recipe import HeadRecipe, Recipe


def recipe(read: Reader) -> Recipe:
    """Of a SmolLM3ForCausalLM."""
    sizes = read_sizes(read, num_kv_heads=4, max_position=32768)
    norm = rms_norm(read, 1e-6)
    rope = read_rope(read, sizes, theta=2e6)
    attention = sizes.attention(rope, bias=read.boolean("attention_bias", False))
    mlp = read_mlp(read, bias=read.boolean("mlp_bias", False))
    has_rope = _has_rope(read, sizes.num_layers)
    layers = [
        pre_norm_layer(replace(attention, window=window, rope=rope if rotates else None), mlp, norm)
        for rotates, window in zip(has_rope, _windows(read, has_rope), strict=True)
    ]
    return assemble(read, sizes, layers, norm, head=HeadRecipe(tied=True))


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
