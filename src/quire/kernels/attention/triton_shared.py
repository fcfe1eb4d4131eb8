"""Paged attention in Triton of single queries to keys that their sequences share.

A program takes some of the rows, sequences times the query heads of a KV head, of a tile, and an
equal share of its keys (`shared`); what it leaves, a part of each sequence, is joined by the kernel
that sees to the sequences' own keys. In a step of nothing but decodes it normalises and rotates its
queries, as that kernel does.

Operations: 4 * H * D for each sequence and shared key. Bytes: those keys and values, once a tile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from quire.kernels.attention import shared, tuning
from quire.kernels.attention.triton_attend import attend, none_seen, precision
from quire.kernels.qkv.triton_heads import prepared_heads

if TYPE_CHECKING:
    from torch import Tensor

    from quire.kernels.batch import AttentionBatch
    from quire.kernels.table import HeadNorm, Rope

_ROW, _NUM_KEYS, _SHARE = (tl.constexpr(c) for c in (shared.ROW, shared.NUM_KEYS, shared.SHARE))
_TOKEN, _LENGTH = tl.constexpr(shared.FIRST_TOKEN), tl.constexpr(shared.FIRST_LENGTH)
_SLOT, _COLUMNS = tl.constexpr(shared.FIRST_SLOT), tl.constexpr(shared.COLUMNS)
_MEMBERS = tl.constexpr(shared.MEMBERS)


@triton.jit
def _shared_kernel(
    q: tl.tensor,  # [T, H, D], strided
    q_weight: tl.tensor,
    table: tl.tensor,  # [L, 2 * half] fp32
    k_pages: tl.tensor,  # [N, K, P, D]
    v_pages: tl.tensor,
    partial: tl.tensor,  # [slots, H, partial_stride] fp32
    weights_of: tl.tensor,  # [slots, H] fp32
    tiles: tl.tensor,  # [tiles, COLUMNS] int32
    page_table: tl.tensor,
    q_token_stride: tl.tensor,
    q_head_stride: tl.tensor,
    table_stride: tl.tensor,
    page_stride: tl.tensor,
    head_stride: tl.tensor,
    slot_stride: tl.tensor,
    num_heads: tl.tensor,
    head_dim: tl.tensor,
    partial_stride: tl.tensor,
    blocks: tl.tensor,  # of rows in a tile
    half: tl.tensor,
    eps: tl.tensor,
    weight_offset: tl.tensor,
    scale: tl.tensor,
    softcap: tl.tensor,
    NORM: tl.constexpr,
    OFFSET: tl.constexpr,
    ROTATE: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    GROUP: tl.constexpr,
    SOFTCAP: tl.constexpr,
    PAGE_SIZE: tl.constexpr,
    PRECISION: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    DIM: tl.constexpr,
) -> None:
    tile = tiles + tl.program_id(0) // blocks * _COLUMNS
    kv_head = tl.program_id(1)
    split = tl.program_id(2)
    num_keys = tl.load(tile + _NUM_KEYS)
    share = tl.load(tile + _SHARE)
    low = split * share
    high = tl.minimum(low + share, num_keys)
    if low < high:
        row = tl.program_id(0) % blocks * ROWS + tl.arange(0, ROWS)
        member = row // GROUP
        own = tile + member
        token = tl.load(own + _TOKEN, mask=member < _MEMBERS, other=-1)
        used = token >= 0
        length = tl.load(own + _LENGTH, mask=used, other=1)
        slot = tl.load(own + _SLOT, mask=used, other=0)
        head = kv_head * GROUP + row % GROUP
        dims = tl.arange(0, DIM)
        heads = prepared_heads(
            (q + token.to(tl.int64) * q_token_stride + head * q_head_stride)[:, None],
            used[:, None],
            q_weight,
            (table + (length - 1).to(tl.int64) * (2 * half))[:, None],
            dims[None, :],
            half,
            head_dim,
            eps,
            weight_offset,
            NORM,
            OFFSET,
            ROTATE,
            INTERLEAVED,
        )
        acc, maximum, total = none_seen(ROWS, DIM)
        acc, maximum, total = attend(
            heads,
            tl.where(used, num_keys, -1),
            k_pages + kv_head.to(tl.int64) * head_stride,
            v_pages + kv_head.to(tl.int64) * head_stride,
            page_table + tl.load(tile + _ROW).to(tl.int64) * table_stride,
            low,
            high,
            acc,
            maximum,
            total,
            page_stride,
            slot_stride,
            head_dim,
            scale,
            softcap,
            0,
            SOFTCAP,
            PAGE_SIZE,
            PRECISION,
            ROWS,
            KEYS,
            DIM,
        )
        total = tl.where(used, total, 1.0)
        place = (slot + split).to(tl.int64) * num_heads + head
        tl.store(weights_of + place, maximum + tl.log2(total), mask=used)
        tl.store(
            partial + place[:, None] * partial_stride + dims[None, :],
            acc / total[:, None],
            mask=used[:, None] & (dims < head_dim)[None, :],
        )


def attend_shared(
    q: Tensor,
    norm: HeadNorm | None,
    rope: Rope | None,
    k_pages: Tensor,
    v_pages: Tensor,
    batch: AttentionBatch,
    scale: float,
    softcap: float | None,
    partial: Tensor,
    weights_of: Tensor,
) -> None:
    """Fill the slots that `batch.shared` names. `norm` and `rope` are for q as projected, None for
    prepared q."""
    assert batch.shared is not None
    _, num_heads, head_dim = q.shape
    num_kv_heads = k_pages.shape[1]
    group = num_heads // num_kv_heads
    dim = max(16, triton.next_power_of_2(head_dim))
    tile = tuning.prefill_tile(shared.MEMBERS, triton.next_power_of_2(group), dim, q.dtype)
    blocks = triton.cdiv(shared.MEMBERS * group, tile.queries)
    _shared_kernel[(len(batch.shared.tiles) * blocks, num_kv_heads, batch.shared.splits)](
        q,
        q if norm is None else norm.q_weight,
        weights_of if rope is None else rope.table,
        k_pages,
        v_pages,
        partial,
        weights_of,
        batch.shared.tiles,
        batch.page_table,
        q.stride(0),
        q.stride(1),
        batch.page_table.stride(0),
        k_pages.stride(0),
        k_pages.stride(1),
        k_pages.stride(2),
        num_heads,
        head_dim,
        partial.stride(1),
        blocks,
        0 if rope is None else rope.table.shape[1] // 2,
        0.0 if norm is None else norm.eps,
        0.0 if norm is None else norm.weight_offset,
        scale,
        softcap or 0.0,
        NORM=norm is not None,
        OFFSET=norm is not None and norm.weight_offset != 0.0,
        ROTATE=rope is not None,
        INTERLEAVED=rope is not None and rope.interleaved,
        GROUP=group,
        SOFTCAP=softcap is not None,
        PAGE_SIZE=batch.page_size,
        PRECISION=precision(q),
        ROWS=tile.queries,
        KEYS=tile.keys,
        DIM=dim,
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
    )
