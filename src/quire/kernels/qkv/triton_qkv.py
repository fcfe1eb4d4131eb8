"""Between the projection and attention, in Triton: one pass over q, k and v.

A program takes some heads of one token: of q, which it changes in place, or of k and v, which
it stores in their page. Bytes: q read and written, k and v read and written, 2 * (H + 2K) * D
values a token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from quire.kernels.qkv.triton_heads import prepared_heads, stored
from quire.kernels.sizes import cdiv, power_of_2

if TYPE_CHECKING:
    from torch import Tensor

    from quire.kernels.table import HeadNorm, Rope

TILE = 1024  # values of q, or of k, that one program moves


@triton.jit
def _qkv_kernel(
    q: tl.tensor,  # [T, H, D], strided
    k: tl.tensor,  # [T, K, D], strided
    v: tl.tensor,  # [T, K, D], strided
    q_weight: tl.tensor,
    k_weight: tl.tensor,
    table: tl.tensor,  # [L, 2 * half] fp32
    positions: tl.tensor,  # [T]
    k_pages: tl.tensor,  # [N, K, P, D]
    v_pages: tl.tensor,
    slots: tl.tensor,  # [T] int64
    q_heads: tl.tensor,
    kv_heads: tl.tensor,
    head_dim: tl.tensor,
    half: tl.tensor,
    q_blocks: tl.tensor,
    q_token_stride: tl.tensor,
    q_head_stride: tl.tensor,
    k_token_stride: tl.tensor,
    k_head_stride: tl.tensor,
    v_token_stride: tl.tensor,
    v_head_stride: tl.tensor,
    page_stride: tl.tensor,
    page_head_stride: tl.tensor,
    page_slot_stride: tl.tensor,
    eps: tl.tensor,
    weight_offset: tl.tensor,
    NORM: tl.constexpr,
    OFFSET: tl.constexpr,
    ROTATE: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    PAGE_SIZE: tl.constexpr,
    HEADS: tl.constexpr,
    DIM: tl.constexpr,
) -> None:
    token = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1)
    rope = table + tl.load(positions + token).to(tl.int64) * (2 * half)
    dim = tl.arange(0, DIM)[None, :]
    if block < q_blocks:
        head = (block * HEADS + tl.arange(0, HEADS))[:, None]
        used = head < q_heads
        place = q + token * q_token_stride + head * q_head_stride
        heads = prepared_heads(
            place,
            used,
            q_weight,
            rope,
            dim,
            half,
            head_dim,
            eps,
            weight_offset,
            NORM,
            OFFSET,
            ROTATE,
            INTERLEAVED,
        )
        tl.debug_barrier()  # in place: every thread has read what another one writes
        tl.store(place + dim, heads, mask=used & (dim < head_dim))
    else:
        slot = tl.load(slots + token)
        if slot >= 0:
            head = ((block - q_blocks) * HEADS + tl.arange(0, HEADS))[:, None]
            used = head < kv_heads
            mask = used & (dim < head_dim)
            page, offset = slot // PAGE_SIZE, slot % PAGE_SIZE
            place = page * page_stride + offset * page_slot_stride + head * page_head_stride + dim
            keys = prepared_heads(
                k + token * k_token_stride + head * k_head_stride,
                used,
                k_weight,
                rope,
                dim,
                half,
                head_dim,
                eps,
                weight_offset,
                NORM,
                OFFSET,
                ROTATE,
                INTERLEAVED,
            )
            source = v + token * v_token_stride + head * v_head_stride + dim
            values = tl.load(source, mask=mask, other=0.0)
            tl.store(k_pages + place, stored(keys, k_pages.dtype.element_ty), mask=mask)
            tl.store(v_pages + place, stored(values, v_pages.dtype.element_ty), mask=mask)


def prepare_qkv(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    norm: HeadNorm | None,
    rope: Rope | None,
    positions: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    slots: Tensor,
) -> None:
    """As `reference.prepare_qkv`. k_pages and v_pages have the same strides."""
    num_tokens, q_heads, head_dim = q.shape
    kv_heads = k.shape[1]
    if num_tokens == 0:
        return
    assert q.stride(2) == k.stride(2) == v.stride(2) == 1, "heads must be contiguous"
    assert k_pages.stride(3) == 1, "heads must be contiguous"
    assert k_pages.stride() == v_pages.stride(), "keys and values must be laid out alike"
    half = 0 if rope is None else rope.table.shape[1] // 2
    dim = power_of_2(head_dim)
    heads = max(1, min(TILE // dim, power_of_2(max(q_heads, kv_heads))))
    # Queries that are neither normalised nor rotated stay as they are.
    q_blocks = cdiv(q_heads, heads) if norm is not None or rope is not None else 0
    _qkv_kernel[(num_tokens, q_blocks + cdiv(kv_heads, heads))](
        q,
        k,
        v,
        q if norm is None else norm.q_weight,
        k if norm is None else norm.k_weight,
        q if rope is None else rope.table,
        positions,
        k_pages,
        v_pages,
        slots,
        q_heads,
        kv_heads,
        head_dim,
        half,
        q_blocks,
        q.stride(0),
        q.stride(1),
        k.stride(0),
        k.stride(1),
        v.stride(0),
        v.stride(1),
        k_pages.stride(0),
        k_pages.stride(1),
        k_pages.stride(2),
        0.0 if norm is None else norm.eps,
        0.0 if norm is None else norm.weight_offset,
        NORM=norm is not None,
        OFFSET=norm is not None and norm.weight_offset != 0.0,
        ROTATE=rope is not None,
        INTERLEAVED=rope is not None and rope.interleaved,
        PAGE_SIZE=k_pages.shape[2],
        HEADS=heads,
        DIM=dim,
        num_warps=4,
    )
