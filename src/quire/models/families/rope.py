"""Rope fields of a config, old spelling and new, into a `RopeRecipe`.

transformers 5 writes `rope_parameters` (rope_type, rope_theta, and the scaling's own fields);
before that there were `rope_theta`, `rope_scaling` and `partial_rotary_factor`. The
precedence is transformers' own. The frequencies are computed by `layers.rotary`.
"""

from collections.abc import Mapping
from typing import Any, cast, get_args

from quire.models.families.reader import Reader
from quire.models.families.sizes import Sizes
from quire.models.recipe import RopeKind, RopeRecipe

_KINDS = get_args(RopeKind)


def read_rope(
    read: Reader,
    sizes: Sizes,
    *,
    theta: float = 10_000.0,
    rotary_fraction: float | None = None,
    original_max_position: int | None = None,
    renamed: Mapping[str, str] | None = None,
) -> RopeRecipe:
    """The rope of a model whose layers share one.

    Args:
        theta: the family's default base.
        rotary_fraction: the family's default share of the head that is rotated; None if the
            family always rotates all of it.
        original_max_position: the family's default trained length, else the config's length.
        renamed: the family's own words for some rope types.
    """
    top_level = {key: read.get(key) for key in ("rope_theta", "partial_rotary_factor")}
    scaling = read.mapping("rope_scaling") or read.mapping("rope_parameters")
    fields = {k: v for k, v in top_level.items() if v is not None} | scaling
    trained = read.config.get("original_max_position_embeddings")
    if trained is not None:  # the model's own field wins over the one among the rope's
        fields["original_max_position_embeddings"] = trained
    fields.setdefault("rope_theta", theta)
    if rotary_fraction is not None:
        fields.setdefault("partial_rotary_factor", rotary_fraction)
    elif fields.get("partial_rotary_factor") not in (None, 1, 1.0):
        raise read.fail(
            f"'partial_rotary_factor' is {fields['partial_rotary_factor']!r}; supported: 1.0"
        )
    if original_max_position is not None:
        fields.setdefault("original_max_position_embeddings", original_max_position)
    return rope_from_fields(read, fields, sizes, renamed or {})


def rope_from_fields(
    read: Reader,
    fields: Mapping[str, Any],
    sizes: Sizes,
    renamed: Mapping[str, str] | None = None,
) -> RopeRecipe:
    """A `RopeRecipe` from one dict of rope fields, which must hold `rope_theta`."""
    nested = [key for key, value in fields.items() if isinstance(value, Mapping)]
    if nested:
        raise read.fail(f"'rope_parameters' per layer type ({', '.join(nested)}) is not supported")
    kind = str(fields.get("rope_type") or fields.get("type") or "default")
    kind = (renamed or {}).get(kind, kind)
    if kind not in _KINDS:
        raise read.fail(f"rope type is {kind!r}; supported: {', '.join(_KINDS)}")
    scale = Reader(fields, f"{read.architecture} (rope, type {kind})")
    rotary_dim = int(sizes.head_dim * scale.positive("partial_rotary_factor", 1.0))
    if rotary_dim % 2 or not 0 < rotary_dim <= sizes.head_dim:
        raise scale.fail(
            f"it would rotate {rotary_dim} of a head's {sizes.head_dim} dimensions; "
            "that must be an even number of them"
        )
    original = scale.integer("original_max_position_embeddings", sizes.max_position)
    return RopeRecipe(
        kind=cast(RopeKind, kind),
        theta=scale.positive("rope_theta"),
        rotary_dim=rotary_dim,
        max_position=sizes.max_position,
        factor=_factor(scale, kind, sizes.max_position / original),
        original_max_position=original,
        attention_factor=scale.optional_number("attention_factor"),
        mscale=scale.optional_number("mscale"),
        mscale_all_dim=scale.optional_number("mscale_all_dim"),
        truncate=scale.boolean("truncate", True),
        beta_fast=scale.number("beta_fast", 32.0) or 32.0,
        beta_slow=scale.number("beta_slow", 1.0) or 1.0,
        low_freq_factor=scale.number("low_freq_factor", None if kind == "llama3" else 1.0),
        high_freq_factor=scale.number("high_freq_factor", None if kind == "llama3" else 4.0),
        short_factor=_factors(scale, "short_factor", kind, rotary_dim),
        long_factor=_factors(scale, "long_factor", kind, rotary_dim),
    )


def longest_sequence(rope: RopeRecipe) -> int:
    """How long a sequence the scaled positions are made for.

    Configs of linear, dynamic and yarn scaling give the length before scaling in
    `max_position_embeddings` (yarn: often in `original_max_position_embeddings`).
    """
    match rope.kind:
        case "linear" | "dynamic":
            return int(rope.max_position * rope.factor)
        case "yarn":
            original = rope.original_max_position or rope.max_position
            return max(rope.max_position, int(original * rope.factor))
        case _:
            return rope.max_position


def _factor(scale: Reader, kind: str, implied: float) -> float:
    if kind == "default":
        return 1.0
    return scale.positive("factor", implied if kind in ("yarn", "longrope") else None)


def _factors(scale: Reader, key: str, kind: str, rotary_dim: int) -> tuple[float, ...]:
    if kind != "longrope":
        return ()
    values = scale.config.get(key)
    if not isinstance(values, list | tuple) or not all(
        isinstance(v, int | float) and not isinstance(v, bool) for v in values
    ):
        raise scale.fail(f"'{key}' must be a list of numbers, got {values!r}")
    if len(values) != rotary_dim // 2:
        raise scale.fail(f"'{key}' must hold {rotary_dim // 2} numbers, got {len(values)}")
    return tuple(float(v) for v in values)
