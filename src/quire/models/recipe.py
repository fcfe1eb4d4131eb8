"""A model family's architecture as nested frozen dataclasses. Imports no torch.

A recipe is computed once from a Hugging Face config by `models/families/`; the decoder builds
itself from it, and parameter counts, memory plans, KV groups, shardings and adapter targets
are read from the same data. A behaviour is a field here, never a test on a model's name.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from quire.core.kv_spec import KVDtype, KVGroup, LayerKV

Activation = Literal["silu", "gelu", "gelu_tanh", "relu", "relu2"]
RopeKind = Literal["default", "linear", "dynamic", "yarn", "longrope", "llama3"]
Transform = Literal["none", "transpose", "split_heads_qkv"]


@dataclass(frozen=True, slots=True)
class NormRecipe:
    """RMSNorm or LayerNorm over the last dimension.

    `weight_offset` is added to the stored weight in fp32 (Gemma stores w - 1). Without
    `affine` a LayerNorm has no parameters at all (Galactica).
    """

    kind: Literal["rms", "layer"]
    eps: float
    bias: bool = False
    weight_offset: float = 0.0
    affine: bool = True


@dataclass(frozen=True, slots=True)
class RopeRecipe:
    """Rotary position embedding over the first `rotary_dim` of each head.

    `interleaved` rotates neighbouring pairs (GPT-J) instead of halves (NeoX). The scaling
    fields are those of Hugging Face's `rope_scaling` for `kind`.
    """

    kind: RopeKind
    theta: float
    rotary_dim: int
    max_position: int
    interleaved: bool = False
    factor: float = 1.0
    original_max_position: int | None = None
    low_freq_factor: float = 1.0  # llama3
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0  # yarn
    beta_slow: float = 1.0
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True
    attention_factor: float | None = None  # yarn, longrope: None is the formula's own
    short_factor: tuple[float, ...] = ()  # longrope
    long_factor: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class AttentionRecipe:
    """Softmax attention over pages.

    `qk_norm_scope`: "head" normalises each head's D values, "all" the whole projection (OLMo-2).
    """

    num_heads: int
    num_kv_heads: int
    head_dim: int
    scale: float
    window: int | None = None
    rope: RopeRecipe | None = None
    qkv_bias: bool = False
    out_bias: bool = False
    softcap: float | None = None
    qk_norm: NormRecipe | None = None
    qk_norm_scope: Literal["head", "all"] = "head"


@dataclass(frozen=True, slots=True)
class MlpRecipe:
    """down(act(gate(x)) * up(x)) if `gated`, else down(act(up(x)))."""

    size: int
    activation: Activation
    gated: bool = True
    bias: bool = False


@dataclass(frozen=True, slots=True)
class MoeRecipe:
    """Routed experts, each a gated MLP of width `size`, `top_k` of `num_experts` per token."""

    num_experts: int
    top_k: int
    size: int
    activation: Activation
    renormalize: bool = True  # softmax over all experts, then renormalise the chosen ones


@dataclass(frozen=True, slots=True)
class SublayerRecipe:
    """How a sublayer f sits in the residual stream.

    x = after_residual( x + multiplier * after( f( before(x) ) ) ), each norm optional.
    """

    before: NormRecipe | None = None
    after: NormRecipe | None = None
    after_residual: NormRecipe | None = None
    multiplier: float = 1.0


@dataclass(frozen=True, slots=True)
class LayerRecipe:
    """One transformer layer. If `parallel`, both sublayers read the layer's input:
    x + attention(norm1(x)) + mlp(norm2(x)); `shared_norm` says norm2 is norm1."""

    attention: AttentionRecipe
    attention_place: SublayerRecipe
    mlp: MlpRecipe | MoeRecipe
    mlp_place: SublayerRecipe
    parallel: bool = False
    shared_norm: bool = False

    def norms(self) -> dict[str, NormRecipe]:
        """The norms around the sublayers by the decoder's names; a shared one once."""
        places = {"attention": self.attention_place, "mlp": self.mlp_place}
        if self.shared_norm:
            del places["mlp"]
        return {
            f"{part}_{suffix}": norm
            for part, place in places.items()
            for suffix, norm in (
                ("norm", place.before),
                ("after_norm", place.after),
                ("residual_norm", place.after_residual),
            )
            if norm is not None
        }


@dataclass(frozen=True, slots=True)
class EmbeddingRecipe:
    """Token embedding, times `multiplier`, plus learned positions if any.

    `round_multiplier` rounds the multiplier to the model's dtype first (Gemma).
    `dim` is the table's width; if it differs from the hidden size, projections in and out
    stand around the layers (OPT-350m). `position_offset` is added to a position before the
    learned table is read.
    """

    dim: int
    multiplier: float = 1.0
    round_multiplier: bool = False
    num_positions: int | None = None
    position_offset: int = 0


@dataclass(frozen=True, slots=True)
class HeadRecipe:
    """Logits: `multiplier` * (W h + b), soft-capped. `tied` shares the embedding's table."""

    tied: bool
    bias: bool = False
    softcap: float | None = None
    multiplier: float = 1.0


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one checkpoint tensor goes.

    Args:
        param: destination parameter of the decoder, e.g. "layers.3.attention.qkv.weight".
        rows: half-open range of the destination's output dimension, None for all of it.
        expert: index in the destination's leading expert dimension.
        transform: applied to the source first, from a closed set:
            "transpose" (Conv1D stores [in, out]);
            "split_heads_qkv" ([H * 3 * D, ...] with q, k, v interleaved per head -> [q; k; v]).
        num_heads: H, for "split_heads_qkv" only.
    """

    param: str
    rows: tuple[int, int] | None = None
    expert: int | None = None
    transform: Transform = "none"
    num_heads: int = 0


@dataclass(frozen=True, slots=True)
class WeightMap:
    """Every tensor name a checkpoint of this model may hold.

    Each name maps to its placements; a name without placements is known and carries nothing
    new (the head of a model that ties it to the embedding). `ignored` are regular expressions
    of tensors to skip (buffers). `optional` names need not be there: a tied head, or one of two
    layouts of the same tensor, so a loader also checks that every parameter was filled.
    `prefixes` may be missing or present in front of every name ("model.", "transformer.").
    """

    places: dict[str, tuple[Placement, ...]]
    ignored: tuple[str, ...] = ()
    optional: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()

    def find(self, name: str) -> str | None:
        """The key of `places` that a checkpoint's tensor `name` means, None if there is none."""
        if name in self.places:
            return name
        bare = [name.removeprefix(p) for p in self.prefixes if name.startswith(p)]
        for candidate in (*bare, *(p + n for n in (name, *bare) for p in self.prefixes)):
            if candidate in self.places:
                return candidate
        return None

    def ignores(self, name: str) -> bool:
        """True if `name` is a tensor that carries nothing."""
        return any(re.search(pattern, name) for pattern in self.ignored)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A whole decoder-only model."""

    architecture: str
    vocab_size: int
    hidden_size: int
    max_position: int  # the longest sequence the positions are made for, scaling included
    embedding: EmbeddingRecipe
    layers: tuple[LayerRecipe, ...]
    final_norm: NormRecipe | None
    head: HeadRecipe
    weights: WeightMap = field(repr=False)
    # Parameters stored in this dtype by the checkpoint ("float32", "float16", "bfloat16").
    dtype: str = "bfloat16"

    def kv_groups(self, dtype: KVDtype = "bfloat16") -> tuple[KVGroup, ...]:
        """Layers grouped by attention window, full attention first, then by window size."""
        return group_by_window([layer.attention for layer in self.layers], dtype)


class CachedAttention(Protocol):
    """What the KV cache must know of a layer's attention."""

    @property
    def num_kv_heads(self) -> int: ...

    @property
    def head_dim(self) -> int: ...

    @property
    def window(self) -> int | None: ...


def group_by_window(layers: Sequence[CachedAttention], dtype: KVDtype) -> tuple[KVGroup, ...]:
    """One KV group for each window: full attention first, then by size."""
    windows: dict[int | None, list[LayerKV]] = {}
    for index, layer in enumerate(layers):
        spec = LayerKV(index, layer.num_kv_heads, layer.head_dim)
        windows.setdefault(layer.window, []).append(spec)
    order = sorted(windows, key=lambda w: (w is not None, w or 0))
    return tuple(KVGroup(w, tuple(windows[w]), dtype) for w in order)


def group_of_layer(groups: Sequence[KVGroup]) -> tuple[int, ...]:
    """Each layer's group, by index."""
    found = {spec.layer: index for index, group in enumerate(groups) for spec in group.layers}
    return tuple(found[layer] for layer in range(len(found)))
