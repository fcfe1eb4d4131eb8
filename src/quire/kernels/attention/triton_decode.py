"""Paged attention in Triton for sequences with one query in the step.

A sequence's keys are cut into *parts* that are worked on at the same time, so that a small batch
uses the whole device and a long sequence does not keep a step waiting. Which parts there are is
planned on the host from the actual lengths (`parts.plan_parts`) and read from the device, so that
one CUDA graph serves any lengths. The program that finishes a sequence's last part joins them.

In a step of nothing but decodes the kernel also does what `prepare_qkv` does: every program
normalises and rotates its queries and the new key. The one with the sequence's last part stores
it, and attends to it from registers.

Bytes: keys and values of every visible token once, 2 * K * D * itemsize each.
On an H200 (4.29 TB/s) `gluon_decode` takes what it can in this kernel's place. There this one
takes 11.2 us for one sequence of 1060 tokens of Llama-8B, 24 for 8 (34%), 41 for 32 (78%), 153
for 128 (85%), 287 for 256 (90%), of 8-bit pages 11.7, 26, 40, 159 and 290 us.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from quire.kernels.attention import tuning
from quire.kernels.attention.parts import (
    AWAITED,
    COLUMNS,
    END,
    FIRST,
    NUM_PARTS,
    PART,
    ROW,
    SEQ_LEN,
    SLOT,
    TOKEN,
)
from quire.kernels.attention.triton_attend import attend, none_seen, precision, scaled
from quire.kernels.qkv.triton_heads import prepared_heads, stored

if TYPE_CHECKING:
    from torch import Tensor

    from quire.kernels.batch import AttentionBatch
    from quire.kernels.table import HeadNorm, Rope

_TOKEN, _ROW, _SEQ_LEN = tl.constexpr(TOKEN), tl.constexpr(ROW), tl.constexpr(SEQ_LEN)
_FIRST, _END = tl.constexpr(FIRST), tl.constexpr(END)
_PART, _NUM_PARTS = tl.constexpr(PART), tl.constexpr(NUM_PARTS)
_SLOT, _AWAITED = tl.constexpr(SLOT), tl.constexpr(AWAITED)
_COLUMNS = tl.constexpr(COLUMNS)


@triton.jit
def _decode_kernel(
    q: tl.tensor,  # [T, H, D], strided
    k: tl.tensor,  # [T, K, D], strided; k and v are read if PREPARE
    v: tl.tensor,
    q_weight: tl.tensor,
    k_weight: tl.tensor,
    table: tl.tensor,  # [L, 2 * half] fp32
    k_pages: tl.tensor,  # [N, K, P, D]
    v_pages: tl.tensor,
    out: tl.tensor,  # [T, H, D]
    partial: tl.tensor,  # [slots, H, partial_stride] fp32, of parts that are not alone
    weights_of: tl.tensor,  # [slots, H] fp32, log2 of their weight
    arrivals: tl.tensor,  # [R, K] int32, zeros before and after
    parts: tl.tensor,  # [W, COLUMNS] int32
    page_table: tl.tensor,
    q_token_stride: tl.tensor,
    q_head_stride: tl.tensor,
    k_token_stride: tl.tensor,
    k_head_stride: tl.tensor,
    v_token_stride: tl.tensor,
    v_head_stride: tl.tensor,
    table_stride: tl.tensor,
    page_stride: tl.tensor,
    head_stride: tl.tensor,
    slot_stride: tl.tensor,
    num_heads: tl.tensor,
    head_dim: tl.tensor,
    partial_stride: tl.tensor,
    half: tl.tensor,
    eps: tl.tensor,
    weight_offset: tl.tensor,
    scale: tl.tensor,
    softcap: tl.tensor,
    PREPARE: tl.constexpr,
    NORM: tl.constexpr,
    OFFSET: tl.constexpr,
    ROTATE: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    GROUP: tl.constexpr,  # query heads per KV head
    SOFTCAP: tl.constexpr,
    PAGE_SIZE: tl.constexpr,
    PRECISION: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    MEMBERS: tl.constexpr,
    PARTS: tl.constexpr,
    DIM: tl.constexpr,
) -> None:
    item = tl.program_id(0)
    kv_head = tl.program_id(1)
    own = parts + item * _COLUMNS
    token = tl.load(own + _TOKEN).to(tl.int64)
    row = tl.load(own + _ROW)
    seq_len = tl.load(own + _SEQ_LEN)
    part = tl.load(own + _PART)
    num_parts = tl.load(own + _NUM_PARTS)
    if token >= 0:
        low = tl.load(own + _FIRST)
        high = tl.load(own + _END)
        if PREPARE:  # the sequence's new key does not come from its page
            high = tl.minimum(high, seq_len - 1)
        page_ids = page_table + row.to(tl.int64) * table_stride
        keys = k_pages + kv_head.to(tl.int64) * head_stride
        values = v_pages + kv_head.to(tl.int64) * head_stride
        member = tl.arange(0, QUERIES)
        head = kv_head * GROUP + member
        dims = tl.arange(0, DIM)
        used = member < GROUP
        inside = dims < head_dim
        mask = used[:, None] & inside[None, :]
        source = (q + token * q_token_stride + head * q_head_stride)[:, None]
        weight = q_weight
        prepared = used
        if PREPARE:  # the new key is one more line of the tile
            prepared = member <= GROUP
            own_key = k + token * k_token_stride + kv_head * k_head_stride
            source = tl.where(used[:, None], source, own_key)
            if NORM:
                weight = tl.where(used[:, None], q_weight, k_weight)
            own_value = v + token * v_token_stride + kv_head * v_head_stride
            new_value = tl.load(own_value + dims, mask=inside, other=0.0)
            new_value = stored(new_value, values.dtype.element_ty)
        heads = prepared_heads(
            source,
            prepared[:, None],
            weight,
            table + (seq_len - 1).to(tl.int64) * (2 * half),
            dims[None, :],
            half,
            head_dim,
            eps,
            weight_offset,
            PREPARE and NORM,
            OFFSET,
            PREPARE and ROTATE,
            INTERLEAVED,
        )
        acc, maximum, total = none_seen(QUERIES, DIM)
        if PREPARE:  # noqa: SIM102 (a compile-time branch)
            if part == num_parts - 1:
                wide = heads.to(tl.float32)
                new_key = tl.sum(tl.where(member[:, None] == GROUP, wide, 0.0), axis=0)
                new_key = stored(new_key, keys.dtype.element_ty)
                at = seq_len - 1
                page = tl.load(page_ids + at // PAGE_SIZE).to(tl.int64)
                place = page * page_stride + (at % PAGE_SIZE) * slot_stride + dims
                tl.store(keys + place, new_key, mask=inside)
                tl.store(values + place, new_value, mask=inside)
                scores = tl.sum(wide * new_key.to(tl.float32)[None, :], axis=1)
                maximum = scaled(scores, scale, softcap, SOFTCAP)
                total = tl.full([QUERIES], 1.0, tl.float32)
                acc += new_value.to(tl.float32)[None, :]
        acc, maximum, total = attend(
            heads,
            tl.where(used, seq_len - 1, -1),
            keys,
            values,
            page_ids,
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
            0,  # where a window begins is the plan's to say
            SOFTCAP,
            PAGE_SIZE,
            PRECISION,
            QUERIES,
            KEYS,
            DIM,
        )
        total = tl.where(used, total, 1.0)
        acc /= total[:, None]
        if num_parts == 1:
            place = token * num_heads + head  # in [T, H]
            result = acc.to(out.dtype.element_ty)
            tl.store(out + place[:, None] * head_dim + dims[None, :], result, mask=mask)
        else:
            slot = tl.load(own + _SLOT)
            place = slot.to(tl.int64) * num_heads + head  # in [slots, H]
            tl.store(weights_of + place, maximum + tl.log2(total), mask=used)
            tl.store(partial + place[:, None] * partial_stride + dims[None, :], acc, mask=mask)
            tl.debug_barrier()  # every thread's stores come before the program's arrival
            counter = arrivals + row * tl.num_programs(1) + kv_head
            if tl.atomic_add(counter, 1, sem="acq_rel") == tl.load(own + _AWAITED) - 1:
                tl.store(counter, 0)
                _join(
                    partial,
                    weights_of,
                    out + token * num_heads * head_dim,
                    slot - part,
                    num_parts,
                    kv_head * GROUP,
                    num_heads,
                    head_dim,
                    partial_stride,
                    GROUP,
                    MEMBERS,
                    PARTS,
                    DIM,
                )


@triton.jit
def _join(
    partial: tl.tensor,  # [slots, H, partial_stride]
    weights_of: tl.tensor,  # [slots, H] log2
    out: tl.tensor,  # [H, D], the token's
    first: tl.tensor,  # of the sequence's slots
    num_parts: tl.tensor,
    first_head: tl.tensor,
    num_heads: tl.tensor,
    head_dim: tl.tensor,
    partial_stride: tl.tensor,
    GROUP: tl.constexpr,
    MEMBERS: tl.constexpr,  # GROUP rounded up to a power of two
    PARTS: tl.constexpr,  # joined at a time, so that their loads are in flight together
    DIM: tl.constexpr,
) -> None:
    """Put a sequence's parts, all of them stored, together into `out`."""
    member = tl.arange(0, MEMBERS)
    dims = tl.arange(0, DIM)
    head = first_head + member
    acc, maximum, total = none_seen(MEMBERS, DIM)
    for start in range(0, num_parts, PARTS):
        part = start + tl.arange(0, PARTS)
        mask = (part < num_parts)[:, None] & (member < GROUP)[None, :]
        place = (first + part)[:, None] * num_heads + head[None, :]
        found = tl.load(weights_of + place, mask=mask, other=float("-inf"))  # [PARTS, MEMBERS]
        values = tl.load(
            partial + place[:, :, None] * partial_stride + dims[None, None, :],
            mask=mask[:, :, None] & (dims < head_dim)[None, None, :],
            other=0.0,
        )
        new_maximum = tl.maximum(maximum, tl.max(found, axis=0))
        base = tl.where(member < GROUP, new_maximum, 0.0)
        weight = tl.exp2(found - base[None, :])
        shrink = tl.exp2(maximum - base)
        total = total * shrink + tl.sum(weight, axis=0)
        acc = acc * shrink[:, None] + tl.sum(values * weight[:, :, None], axis=0)
        maximum = new_maximum
    result = (acc / tl.where(member < GROUP, total, 1.0)[:, None]).to(out.dtype.element_ty)
    mask = (member < GROUP)[:, None] & (dims < head_dim)[None, :]
    tl.store(out + head[:, None] * head_dim + dims[None, :], result, mask=mask)


def decode(
    q: Tensor,
    k: Tensor | None,
    v: Tensor | None,
    norm: HeadNorm | None,
    rope: Rope | None,
    k_pages: Tensor,
    v_pages: Tensor,
    batch: AttentionBatch,
    scale: float,
    softcap: float | None,
    out: Tensor,
    partial: Tensor,
    weights_of: Tensor,
) -> None:
    """Fill `out` [T, H, D] for the sequences in `batch.parts`. `partial` [slots, H, at least D]
    and `weights_of` [slots, H] fp32 take what is to be joined.

    With k and v [T, K, D]: as `prepare_qkv` first, and then attention; q is left as it is.
    """
    assert batch.parts is not None, "decode attention is planned by parts"
    assert k_pages.stride() == v_pages.stride(), "keys and values must be laid out alike"
    _, num_heads, head_dim = q.shape
    num_parts, num_kv_heads = batch.parts.shape[0], k_pages.shape[1]
    group = num_heads // num_kv_heads
    dim = max(16, triton.next_power_of_2(head_dim))
    members = triton.next_power_of_2(group)
    # A line more than the queries, for the new key.
    tile = tuning.decode_tile(triton.next_power_of_2(group + 1), dim, q.dtype)
    new_k, new_v = q if k is None else k, q if v is None else v
    _decode_kernel[(num_parts, num_kv_heads)](
        q,
        new_k,
        new_v,
        q if norm is None else norm.q_weight,
        q if norm is None else norm.k_weight,
        weights_of if rope is None else rope.table,
        k_pages,
        v_pages,
        out,
        partial,
        weights_of,
        batch.arrivals,
        batch.parts,
        batch.page_table,
        q.stride(0),
        q.stride(1),
        new_k.stride(0),
        new_k.stride(1),
        new_v.stride(0),
        new_v.stride(1),
        batch.page_table.stride(0),
        k_pages.stride(0),
        k_pages.stride(1),
        k_pages.stride(2),
        num_heads,
        head_dim,
        partial.stride(1),
        0 if rope is None else rope.table.shape[1] // 2,
        0.0 if norm is None else norm.eps,
        0.0 if norm is None else norm.weight_offset,
        scale,
        softcap or 0.0,
        PREPARE=k is not None,
        NORM=norm is not None,
        OFFSET=norm is not None and norm.weight_offset != 0.0,
        ROTATE=rope is not None,
        INTERLEAVED=rope is not None and rope.interleaved,
        GROUP=group,
        SOFTCAP=softcap is not None,
        PAGE_SIZE=batch.page_size,
        PRECISION=precision(q),
        QUERIES=tile.queries,
        KEYS=tile.keys,
        MEMBERS=members,
        PARTS=max(1, tuning.JOIN_TILE // (members * dim)),
        DIM=dim,
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
    )
