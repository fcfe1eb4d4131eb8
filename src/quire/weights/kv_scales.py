"""The scales of keys and values that some checkpoints hold for a cache of 8 bits.

One number each for all of a layer's keys and for all of its values, in the releases there have
been: `k_scale` and `v_scale` of the attention, of its projections `k_proj` and `v_proj`, or one
`kv_scale` for both. A value is held divided by its scale.
"""

import re
from pathlib import Path

import torch

from quire.core.errors import CheckpointError
from quire.weights.checkpoint import TensorEntry, open_checkpoint

_SCALE = re.compile(r"\.(\d+)\.[^\d]*\b(k|v|kv)_scale$")


def read_kv_scales(directory: Path, load_format: str) -> dict[int, tuple[float, float]]:
    """(scale of keys, scale of values) of the layers that have any.

    Raises:
        CheckpointError: a scale is no positive number.
    """
    found: dict[int, dict[str, float]] = {}
    for entries in open_checkpoint(directory, load_format).shards():
        for entry in entries:
            if match := _SCALE.search(entry.name):
                of_layer = found.setdefault(int(match[1]), {})
                of_layer |= dict.fromkeys(match[2], _number(entry))
    return {layer: (of.get("k", 1.0), of.get("v", 1.0)) for layer, of in found.items()}


def _number(entry: TensorEntry) -> float:
    value = float("nan")
    if entry.shape in ((), (1,)) and entry.dtype.is_floating_point:
        stored = torch.empty(1, dtype=entry.dtype)
        entry.read_into(stored, 0, 1)
        value = float(stored)
    if not 0 < value < float("inf"):
        raise CheckpointError(
            f"tensor {entry.name} in {entry.path.name} is no scale (shape {list(entry.shape)}, "
            f"value {value}); use kv_cache_dtype='auto'"
        )
    return value
