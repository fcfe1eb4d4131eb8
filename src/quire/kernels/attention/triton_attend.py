"""The inner loop that the Triton attention kernels share: one tile of queries over its keys.

Query heads that share a KV head are the rows of one tile, so that keys and values are read once
and multiplied on tensor cores even for a single query. Scores are kept in units of log2 so that
the softmax is exp2. A key outside [first visible, last visible] of a tile is never read, whatever
its page or table entry holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from quire.kernels.triton_dot import dot

if TYPE_CHECKING:
    from torch import Tensor

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def attend(
    q: tl.tensor,  # [QUERIES, DIM]
    queries: tl.tensor,  # [QUERIES] positions, -1 for rows that see nothing
    k_pages: tl.tensor,  # of this KV head
    v_pages: tl.tensor,
    page_ids: tl.tensor,  # the sequence's row of the page table
    low: tl.tensor,  # keys [low, high) are visited
    high: tl.tensor,
    acc: tl.tensor,  # of the keys already seen, as `none_seen` has it: sum of weight * value
    maximum: tl.tensor,  # of their scores [QUERIES]
    total: tl.tensor,  # of their weights [QUERIES]
    page_stride: tl.tensor,
    slot_stride: tl.tensor,
    head_dim: tl.tensor,
    scale: tl.tensor,
    softcap: tl.tensor,
    WINDOW: tl.constexpr,  # 0 for none
    SOFTCAP: tl.constexpr,
    PAGE_SIZE: tl.constexpr,
    PRECISION: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    DIM: tl.constexpr,
) -> tuple:
    """-> (acc, maximum, total) once these keys are seen too."""
    dims = tl.arange(0, DIM)
    if k_pages.dtype.element_ty.primitive_bitwidth == 8 and q.dtype == tl.bfloat16:
        # 8 bits become fp16 in one instruction, exactly, and bf16 in three.
        q = tl.clamp(q.to(tl.float32), -65504.0, 65504.0, tl.PropagateNan.ALL).to(tl.float16)
    for start in range(low, high, KEYS):
        keys = start + tl.arange(0, KEYS)
        inside = keys < high
        page = tl.load(page_ids + keys // PAGE_SIZE, mask=inside, other=0).to(tl.int64)
        place = page * page_stride + (keys % PAGE_SIZE) * slot_stride
        k = tl.load(
            k_pages + place[None, :] + dims[:, None],
            mask=inside[None, :] & (dims < head_dim)[:, None],
            other=0.0,
        ).to(q.dtype)  # pages may hold another
        scores = dot(q, k, tl.zeros([QUERIES, KEYS], tl.float32), PRECISION)
        scores = scaled(scores, scale, softcap, SOFTCAP)
        visible = inside[None, :] & (keys[None, :] <= queries[:, None])
        if WINDOW > 0:
            visible = visible & (keys[None, :] > queries[:, None] - WINDOW)
        scores = tl.where(visible, scores, float("-inf"))
        new_maximum = tl.maximum(maximum, tl.max(scores, axis=1))
        # A row that has seen nothing yet: -inf - -inf would be NaN.
        base = tl.where(new_maximum == float("-inf"), 0.0, new_maximum)
        weights = tl.exp2(scores - base[:, None])
        shrink = tl.exp2(maximum - base)
        total = total * shrink + tl.sum(weights, axis=1)
        v = tl.load(
            v_pages + place[:, None] + dims[None, :],
            mask=inside[:, None] & (dims < head_dim)[None, :],
            other=0.0,
        ).to(q.dtype)
        acc = dot(weights.to(v.dtype), v, acc * shrink[:, None], PRECISION)
        maximum = new_maximum
    return acc, maximum, total


@triton.jit
def none_seen(QUERIES: tl.constexpr, DIM: tl.constexpr) -> tuple:
    """(acc, maximum, total) before any key."""
    acc = tl.zeros([QUERIES, DIM], tl.float32)
    return acc, tl.full([QUERIES], float("-inf"), tl.float32), tl.zeros([QUERIES], tl.float32)


@triton.jit
def scaled(
    scores: tl.tensor, scale: tl.tensor, softcap: tl.tensor, SOFTCAP: tl.constexpr
) -> tl.tensor:
    """Products of queries and keys in units of log2, capped."""
    scores = scores * scale
    if SOFTCAP:
        scores = softcap * (2.0 * tl.sigmoid(2.0 * scores / softcap) - 1.0)
    return scores * LOG2_E


def precision(q: Tensor) -> str:
    """fp32 is multiplied exactly; 16-bit operands are exact in any mode."""
    return "ieee" if q.dtype.itemsize == 4 else "tf32"
