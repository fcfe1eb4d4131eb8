"""Paged attention in Triton for sequences with any number of queries in the step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from quire.kernels.attention import tuning
from quire.kernels.attention.triton_attend import attend, none_seen, precision
from quire.kernels.sizes import power_of_2

if TYPE_CHECKING:
    from torch import Tensor

    from quire.kernels.batch import AttentionBatch


@triton.jit(do_not_specialize=["num_sequences"])
def _varlen_kernel(
    q: tl.tensor,  # [T, H, D], strided
    k_pages: tl.tensor,  # [N, K, P, D]
    v_pages: tl.tensor,
    out: tl.tensor,  # [T, H, D]
    query_starts: tl.tensor,
    seq_lens: tl.tensor,
    rows: tl.tensor,
    page_table: tl.tensor,
    num_sequences: tl.tensor,
    q_token_stride: tl.tensor,
    q_head_stride: tl.tensor,
    out_token_stride: tl.tensor,
    table_stride: tl.tensor,
    page_stride: tl.tensor,
    head_stride: tl.tensor,
    slot_stride: tl.tensor,
    head_dim: tl.tensor,
    scale: tl.tensor,
    softcap: tl.tensor,
    GROUP: tl.constexpr,  # query heads per KV head
    GROUP_BLOCK: tl.constexpr,  # that, rounded up to a power of two
    WINDOW: tl.constexpr,
    SOFTCAP: tl.constexpr,
    SKIP_SINGLE: tl.constexpr,  # leave sequences of one query alone
    PAGE_SIZE: tl.constexpr,
    PRECISION: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    DIM: tl.constexpr,
) -> None:
    TOKENS: tl.constexpr = QUERIES // GROUP_BLOCK
    # Sequence i owns the blocks [starts[i] // TOKENS + i, starts[i + 1] // TOKENS + i + 1):
    # enough for its tokens, known without the host. Find the owner of this block.
    program = tl.program_id(0)
    low = 0
    high = num_sequences
    while low < high:
        middle = (low + high) // 2
        if tl.load(query_starts + middle) // TOKENS + middle <= program:
            low = middle + 1
        else:
            high = middle
    sequence = low - 1
    start = tl.load(query_starts + sequence)
    query_len = tl.load(query_starts + sequence + 1) - start
    first_token = (program - start // TOKENS - sequence) * TOKENS
    if (first_token < query_len) & ((query_len > 1) | (not SKIP_SINGLE)):
        kv_head = tl.program_id(1)
        offset = tl.load(seq_lens + sequence) - query_len
        index = tl.arange(0, QUERIES)
        token = first_token + index // GROUP_BLOCK  # within the sequence's queries
        member = index % GROUP_BLOCK
        used = (token < query_len) & (member < GROUP)
        head = kv_head * GROUP + member
        dims = tl.arange(0, DIM)
        mask = used[:, None] & (dims < head_dim)[None, :]
        row = (start + token).to(tl.int64)
        source = row * q_token_stride + head * q_head_stride
        last = tl.minimum(first_token + TOKENS, query_len) - 1
        lowest = 0
        if WINDOW > 0:
            lowest = tl.maximum(offset + first_token - WINDOW + 1, 0)
        page_ids = page_table + tl.load(rows + sequence).to(tl.int64) * table_stride
        acc, maximum, total = none_seen(QUERIES, DIM)
        acc, _maximum, total = attend(
            tl.load(q + source[:, None] + dims[None, :], mask=mask, other=0.0),
            tl.where(used, offset + token, -1),
            k_pages + kv_head.to(tl.int64) * head_stride,
            v_pages + kv_head.to(tl.int64) * head_stride,
            page_ids,
            lowest,
            offset + last + 1,
            acc,
            maximum,
            total,
            page_stride,
            slot_stride,
            head_dim,
            scale,
            softcap,
            WINDOW,
            SOFTCAP,
            PAGE_SIZE,
            PRECISION,
            QUERIES,
            KEYS,
            DIM,
        )
        place = row * out_token_stride + head * head_dim
        result = acc / tl.where(used, total, 1.0)[:, None]
        tl.store(out + place[:, None] + dims[None, :], result.to(out.dtype.element_ty), mask=mask)


def prefill(
    q: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    batch: AttentionBatch,
    scale: float,
    window: int | None,
    softcap: float | None,
    out: Tensor,
    skip_single: bool,
) -> None:
    num_tokens, num_heads, head_dim = q.shape
    num_kv_heads = k_pages.shape[1]
    group = num_heads // num_kv_heads
    group_block = power_of_2(group)
    dim = max(16, power_of_2(head_dim))
    tile = tuning.prefill_tile(batch.max_query_len, group_block, dim, q.dtype)
    tokens = tile.queries // group_block
    num_sequences = batch.seq_lens.shape[0]
    _varlen_kernel[(num_tokens // tokens + num_sequences, num_kv_heads)](
        q,
        k_pages,
        v_pages,
        out,
        batch.query_starts,
        batch.seq_lens,
        batch.rows,
        batch.page_table,
        num_sequences,
        q.stride(0),
        q.stride(1),
        out.stride(0),
        batch.page_table.stride(0),
        k_pages.stride(0),
        k_pages.stride(1),
        k_pages.stride(2),
        head_dim,
        scale,
        softcap or 0.0,
        GROUP=group,
        GROUP_BLOCK=group_block,
        WINDOW=window or 0,
        SOFTCAP=softcap is not None,
        SKIP_SINGLE=skip_single,
        PAGE_SIZE=batch.page_size,
        PRECISION=precision(q),
        QUERIES=tile.queries,
        KEYS=tile.keys,
        DIM=dim,
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
    )
