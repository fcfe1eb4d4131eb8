"""The ops table: which implementation of each op a device uses, chosen once, and why.

All implementations of an op have exactly the signature given here. T tokens, E hidden, H query
heads, K KV heads, D head dim, F MLP width, X experts, S sequences, V vocabulary, N pages,
P tokens per page, L rope table length.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from quire.kernels.batch import AttentionBatch, LayerCache, StepInputs
from quire.quant.layouts.layout import Layout

# rms_norm(x [..., E], weight [E], eps, weight_offset) -> [..., E], statistics in fp32
RmsNorm = Callable[[Tensor, Tensor, float, float], Tensor]
# add_rms_norm(x [T, E], residual [T, E], weight [E], eps, weight_offset)
#   -> (norm(x + residual), x + residual)
AddRmsNorm = Callable[[Tensor, Tensor, Tensor, float, float], tuple[Tensor, Tensor]]
# prepare_qkv(q [T, H, D], k [T, K, D], v [T, K, D], norm, rope, positions [T],
#   k_pages [N, K, P, D], v_pages, slots [T] int64) -> None; q in place, k and v into the pages
PrepareQKV = Callable[
    [
        Tensor,
        Tensor,
        Tensor,
        "HeadNorm | None",
        "Rope | None",
        Tensor,
        Tensor,
        Tensor,
        Tensor,
    ],
    None,
]
# attention(q [T, H, D], k_pages, v_pages, batch, scale, window, softcap) -> [T, H, D]
Attention = Callable[
    [Tensor, Tensor, Tensor, AttentionBatch, float, int | None, float | None], Tensor
]
# linear(weight [out, in] in its layout, bias [out] or None, activation or None) -> the function
#   of a layer, x [T, in] -> x W^T + b [T, out]; with an activation the weight's rows are gate,
#   then up, and the result is act(gate) * up [T, out / 2]. The weight may be filled later. Where
#   the ops have `linear_add_norm`, x may be what that gives.
Linear = Callable[[Layout, Tensor | None, str | None], Callable[[Tensor], Tensor]]
# linear_add_norm(weight, bias) -> the function (x [T, in], residual [T, out], norm) -> norm(total)
#   for a linear layer of the same kind, total = x W^T + b + residual; None for numbers of tokens
#   for which `linear` and `add_rms_norm` are as fast
LinearAddNorm = Callable[
    [Layout, Tensor | None], Callable[[Tensor, Tensor, "NormParts"], "LinearInput | None"]
]
# held(layout, dtype) -> the layout in which the device's kernels want such weights
Held = Callable[[type[Layout], torch.dtype], type[Layout]]
# decode_attention(q, k, v, norm, rope, k_pages, v_pages, batch, scale, window, softcap)
#   -> [T, H, D]; prepare_qkv and attention for a batch with `parts` and nothing else in it
DecodeAttention = Callable[
    [
        Tensor,
        Tensor,
        Tensor,
        "HeadNorm | None",
        "Rope | None",
        Tensor,
        Tensor,
        AttentionBatch,
        float,
        int | None,
        float | None,
    ],
    Tensor,
]
# lookup(table [rows, width] in its layout) -> the function ids [T] int64 -> [T, width]. The table
#   may be filled later.
Lookup = Callable[[Layout], Callable[[Tensor], Tensor]]
# gated_act(x [T, 2F] = gate then up, activation) -> act(gate) * up [T, F]
GatedAct = Callable[[Tensor, str], Tensor]
# experts(x [T, E], expert_ids [T, k] int64, expert_weights [T, k], gate_up [X, 2F, E],
#   down [X, E, F], activation) -> [T, E]
Experts = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, str], Tensor]


class DrawNumbers(NamedTuple):
    """How the tokens of S rows are drawn, [S] each."""

    temperature: Tensor  # fp32, as are top_p and min_p
    top_k: Tensor  # int32; 0 is off
    top_p: Tensor  # 1 is off
    min_p: Tensor  # 0 is off
    seed: Tensor  # int64
    positions: Tensor  # int64


# sample(logits [S, V], numbers) -> token ids [S] int64, -1 where a row is not a number
Sample = Callable[[Tensor, DrawNumbers], Tensor]
# stage(tokens [R, L] int32, page_size, page_table [R, M] int32, rows [S] int32, seq_lens [S] int32,
#   new_pages [S] int32, token_ids [S] int64, positions [S] int64, slots [S] int64)
#   -> None; fills the last three for sequences of one query each
Stage = Callable[
    [Tensor, int, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor],
    None,
]
# append(tokens [R, L] int32, rows [S] int32, seq_lens [S] int32 or int64, sampled [S] int64)
#   -> None
Append = Callable[[Tensor, Tensor, Tensor, Tensor], None]
# plan_parts(query_starts [S + 1], rows [S], seq_lens [S], window, num_kv_heads, first_keys [S],
#   num_stored [S]) -> [W, COLUMNS], int32 on the host: what `AttentionBatch.parts` is to hold; at
#   most max_parts(S, num_kv_heads) lines. The last two are for keys that are shared, else None.
PlanParts = Callable[
    [
        np.ndarray,
        np.ndarray,
        np.ndarray,
        int | None,
        int,
        np.ndarray | None,
        np.ndarray | None,
    ],
    np.ndarray,
]
MaxParts = Callable[[int, int], int]
# num_splits(tiles, num_kv_heads) -> `SharedPrefixes.splits`
NumSplits = Callable[[int, int], int]


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary embedding: `table` [L, rotary_dim] fp32, cos then sin halves by position."""

    table: Tensor
    interleaved: bool


@dataclass(frozen=True, slots=True)
class HeadNorm:
    """RMSNorm of each head of q and k: weights [D]."""

    q_weight: Tensor
    k_weight: Tensor
    eps: float
    weight_offset: float


@dataclass(frozen=True, slots=True)
class NormParts:
    """RMSNorm: `weight` [E]."""

    weight: Tensor
    eps: float
    weight_offset: float


@dataclass(frozen=True, slots=True)
class PartialNorm:
    """RMSNorm of `total` [T, E], but for each token's factor.

    Args:
        scaled: total * (weight + weight_offset) [T, E], to be divided by the token's root mean
            square: what is linear in it can be divided instead.
        squares: [n, T] fp32; a token's add up to its sum of squares.
    """

    total: Tensor
    scaled: Tensor
    squares: Tensor
    norm: NormParts


@dataclass(frozen=True, slots=True)
class QuantizedNorm:
    """RMSNorm of `total` [T, E]: e4m3 `values` [T, E] times `scales` [T] fp32."""

    total: Tensor
    values: Tensor
    scales: Tensor
    norm: NormParts


LinearInput = PartialNorm | QuantizedNorm


@dataclass(frozen=True, slots=True)
class LinearParts:
    """A linear layer: the weight in its layout and `bias` [out]."""

    weight: Layout
    bias: Tensor | None


@dataclass(frozen=True, slots=True)
class LayerParts:
    """A layer of the common kind, x += after(f(norm(x))) for attention, then for a gated MLP.

    `qkv` has rows q over k over v, `gate_up` gate over up. `group` is the layer's KV group.
    """

    attention_norm: NormParts
    qkv: LinearParts
    head_norm: HeadNorm | None
    rope: Rope | None
    num_heads: int
    num_kv_heads: int
    head_dim: int
    scale: float
    window: int | None
    softcap: float | None
    out: LinearParts
    attention_after_norm: NormParts | None
    mlp_norm: NormParts
    gate_up: LinearParts
    activation: str
    down: LinearParts
    mlp_after_norm: NormParts | None
    group: int


# run(x [T, E], inputs) -> (delta, residual), whose sum leaves the last of the layers; it writes the
#   step's keys and values
RunLayers = Callable[[Tensor, StepInputs], tuple[Tensor, Tensor]]
# layers(parts and caches of layers in a row, everything in its place) -> what runs them, None if
#   that is not for such as these
Layers = Callable[[Sequence[LayerParts], Sequence[LayerCache]], RunLayers | None]


@dataclass(frozen=True, slots=True)
class DecoderParts:
    """A decoder of such layers: rows of `embedding` times `multiplier` enter the first."""

    embedding: Layout
    multiplier: float
    layers: Sequence[LayerParts]
    final_norm: NormParts
    head: LinearParts


@dataclass(frozen=True, slots=True)
class RowTensors:
    """What a runner holds of R rows: `tokens` [R, L] int32, a page table [R, M] int32 a KV group,
    and for sampling [R] each, all but `seed` and `top_k` (int64) fp32."""

    tokens: Tensor
    page_tables: Sequence[Tensor]
    page_size: int
    temperature: Tensor
    top_p: Tensor
    min_p: Tensor
    seed: Tensor
    top_k: Tensor


@dataclass(frozen=True, slots=True)
class DecodeCall:
    """Whole decode steps of up to S sequences.

    Args:
        step: [2, S] int32: rows, and the positions of the tokens to compute.
        new_pages: [groups, S] int32: what is not -1 enters the page table first, and is -1 then.
        logits: [S, V]; positions: [S] int64, where the next tokens stand. Both until the next run.
        run: of the first n -> their next tokens [n] int64, drawn and appended.
    """

    step: np.ndarray
    new_pages: np.ndarray
    logits: Tensor
    positions: Tensor
    run: Callable[[int], Tensor]


# decode(parts, caches, rows, S) -> steps of up to S sequences, None if that is not for such parts
Decode = Callable[[DecoderParts, Sequence[LayerCache], RowTensors, int], DecodeCall | None]


@dataclass(frozen=True, slots=True)
class AttentionByParts:
    """Decode attention of its own, and how it wants single-query sequences planned."""

    decode: DecodeAttention
    plan: PlanParts
    limit: MaxParts
    splits: NumSplits


@dataclass(frozen=True, slots=True)
class Ops:
    """One implementation per op. `reasons` maps op name -> "what: why" for `explain()`."""

    rms_norm: RmsNorm
    add_rms_norm: AddRmsNorm
    prepare_qkv: PrepareQKV
    attention: Attention
    linear: Linear
    lookup: Lookup
    gated_act: GatedAct
    experts: Experts
    sample: Sample
    stage: Stage
    append: Append
    reasons: dict[str, str]
    linear_add_norm: LinearAddNorm | None = None  # None where they are done one after the other
    layers: Layers | None = None  # None where the decoder calls them one by one
    decode: Decode | None = None  # None where a step's ops are called one by one
    by_parts: AttentionByParts | None = None  # None where attention needs no plan
    held: Held = lambda layout, _: layout

    def explain(self) -> str:
        """A line per op: the implementation in use and the reason."""
        return "\n".join(f"{name}: {reason}" for name, reason in self.reasons.items())
