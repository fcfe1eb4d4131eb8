"""What the KV cache must hold, as integers: the common ground of recipes, `kv/` and the runner."""

from dataclasses import dataclass


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
    own included) that a query can see; pages wholly older than that are released.
    """

    window: int | None
    layers: tuple[LayerKV, ...]

    @property
    def elements_per_token(self) -> int:
        return sum(layer.elements_per_token for layer in self.layers)
