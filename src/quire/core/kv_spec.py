"""What the KV cache must hold, as integers: the common ground of recipes, `kv/` and the runner."""

from dataclasses import dataclass
from typing import Literal

KVDtype = Literal["float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"]

_ITEM_BYTES: dict[KVDtype, int] = {
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
}


def is_8_bit(dtype: KVDtype) -> bool:
    """Whether values are held divided by the checkpoint's scales."""
    return _ITEM_BYTES[dtype] == 1


@dataclass(frozen=True, slots=True)
class LayerKV:
    """One layer's share of a page: `num_kv_heads` × `head_dim` keys and as many values."""

    layer: int
    num_kv_heads: int
    head_dim: int

    @property
    def elements_per_token(self) -> int:
        """Keys and values of one token."""
        return 2 * self.num_kv_heads * self.head_dim


@dataclass(frozen=True, slots=True)
class KVGroup:
    """Layers whose cache lives and dies together; a page id is valid in all of them.

    `window` is None for full attention, else the number of most recent tokens (the query's
    own included) that a query can see; pages wholly older than that are released. `dtype` is
    what keys and values are held in.
    """

    window: int | None
    layers: tuple[LayerKV, ...]
    dtype: KVDtype = "bfloat16"

    @property
    def elements_per_token(self) -> int:
        return sum(layer.elements_per_token for layer in self.layers)

    @property
    def bytes_per_token(self) -> int:
        return self.elements_per_token * _ITEM_BYTES[self.dtype]
