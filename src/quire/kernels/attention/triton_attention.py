"""Paged attention in Triton: one kernel for any mix of query lengths, one for decode.

Both put the query heads that share a KV head into the rows of one tile, so that keys and values
are read once and multiplied on tensor cores even for a single query. The decode kernel can also
cut a sequence's keys into parts worked on at the same time; `_merge_kernel` joins the partial
results. Scores are kept in units of log2 so that the softmax is exp2. A key outside
[first visible, last visible] of a tile is never read, whatever its page or table entry holds.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from quire.kernels.attention import tuning
from quire.kernels.batch import AttentionBatch
from quire.kernels.triton_dot import dot

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def _attend(
    q: tl.tensor,  # [QUERIES, DIM]
    queries: tl.tensor,  # [QUERIES] positions, -1 for rows that see nothing
    k_pages: tl.tensor,  # of this KV head
    v_pages: tl.tensor,
    page_ids: tl.tensor,  # the sequence's row of the page table
    low: tl.tensor,  # keys [low, high) are visited
    high: tl.tensor,
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
    """-> (sum of weight * value [QUERIES, DIM], row maxima, sums of weights [QUERIES])."""
    dims = tl.arange(0, DIM)
    acc = tl.zeros([QUERIES, DIM], tl.float32)
    maximum = tl.full([QUERIES], float("-inf"), tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    for start in range(low, high, KEYS):
        keys = start + tl.arange(0, KEYS)
        inside = keys < high
        page = tl.load(page_ids + keys // PAGE_SIZE, mask=inside, other=0).to(tl.int64)
        place = page * page_stride + (keys % PAGE_SIZE) * slot_stride
        k = tl.load(
            k_pages + place[None, :] + dims[:, None],
            mask=inside[None, :] & (dims < head_dim)[:, None],
            other=0.0,
        )
        scores = dot(q, k, tl.zeros([QUERIES, KEYS], tl.float32), PRECISION) * scale
        if SOFTCAP:
            scores = softcap * (2.0 * tl.sigmoid(2.0 * scores / softcap) - 1.0)
        visible = inside[None, :] & (keys[None, :] <= queries[:, None])
        if WINDOW > 0:
            visible = visible & (keys[None, :] > queries[:, None] - WINDOW)
        scores = tl.where(visible, scores * LOG2_E, float("-inf"))
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
        )
        acc = dot(weights.to(v.dtype), v, acc * shrink[:, None], PRECISION)
        maximum = new_maximum
    return acc, maximum, total


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
    if first_token < query_len:
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
        acc, _maximum, total = _attend(
            tl.load(q + source[:, None] + dims[None, :], mask=mask, other=0.0),
            tl.where(used, offset + token, -1),
            k_pages + kv_head.to(tl.int64) * head_stride,
            v_pages + kv_head.to(tl.int64) * head_stride,
            page_ids,
            lowest,
            offset + last + 1,
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


@triton.jit(do_not_specialize=["num_splits"])
def _decode_kernel(
    q: tl.tensor,  # [T, H, D], strided
    k_pages: tl.tensor,  # [N, K, P, D]
    v_pages: tl.tensor,
    out: tl.tensor,  # [T, H, D], written unless SPLIT
    partial: tl.tensor,  # [T, H, num_splits, D] fp32, written if SPLIT
    maxima: tl.tensor,  # [T, H, num_splits] fp32
    totals: tl.tensor,
    query_starts: tl.tensor,
    seq_lens: tl.tensor,
    rows: tl.tensor,
    page_table: tl.tensor,
    num_splits: tl.tensor,
    q_token_stride: tl.tensor,
    q_head_stride: tl.tensor,
    table_stride: tl.tensor,
    page_stride: tl.tensor,
    head_stride: tl.tensor,
    slot_stride: tl.tensor,
    num_heads: tl.tensor,
    head_dim: tl.tensor,
    scale: tl.tensor,
    softcap: tl.tensor,
    GROUP: tl.constexpr,
    WINDOW: tl.constexpr,
    SOFTCAP: tl.constexpr,
    PAGE_SIZE: tl.constexpr,
    PRECISION: tl.constexpr,
    SPLIT: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    DIM: tl.constexpr,
) -> None:
    sequence = tl.program_id(0)
    kv_head = tl.program_id(1)
    split = tl.program_id(2)
    token = tl.load(query_starts + sequence)
    if token < tl.load(query_starts + sequence + 1):  # a padding sequence has no query
        seq_len = tl.load(seq_lens + sequence)
        first = 0
        if WINDOW > 0:
            first = tl.maximum(seq_len - WINDOW, 0)
        # Whole tiles per split; the last splits of a short sequence may get none.
        span = tl.cdiv(tl.cdiv(seq_len - first, num_splits), KEYS) * KEYS
        low = first + split * span
        high = tl.minimum(low + span, seq_len)
        member = tl.arange(0, QUERIES)
        head = kv_head * GROUP + member
        dims = tl.arange(0, DIM)
        used = member < GROUP
        mask = used[:, None] & (dims < head_dim)[None, :]
        source = token.to(tl.int64) * q_token_stride + head * q_head_stride
        page_ids = page_table + tl.load(rows + sequence).to(tl.int64) * table_stride
        acc, maximum, total = _attend(
            tl.load(q + source[:, None] + dims[None, :], mask=mask, other=0.0),
            tl.where(used, seq_len - 1, -1),
            k_pages + kv_head.to(tl.int64) * head_stride,
            v_pages + kv_head.to(tl.int64) * head_stride,
            page_ids,
            low,
            high,
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
        place = token.to(tl.int64) * num_heads + head  # in [T, H]
        if SPLIT:
            place = place * num_splits + split  # in [T, H, num_splits]
            tl.store(maxima + place, maximum, mask=used)
            tl.store(totals + place, total, mask=used)
            tl.store(partial + place[:, None] * head_dim + dims[None, :], acc, mask=mask)
        else:
            result = (acc / tl.where(used, total, 1.0)[:, None]).to(out.dtype.element_ty)
            tl.store(out + place[:, None] * head_dim + dims[None, :], result, mask=mask)


@triton.jit(do_not_specialize=["num_splits"])
def _merge_kernel(
    partial: tl.tensor,  # [T * H, num_splits, D] fp32
    maxima: tl.tensor,  # [T * H, num_splits] fp32
    totals: tl.tensor,
    out: tl.tensor,  # [T * H, D]
    num_splits: tl.tensor,
    head_dim: tl.tensor,
    DIM: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    dims = tl.arange(0, DIM)
    mask = dims < head_dim
    acc = tl.zeros([DIM], tl.float32)
    maximum = tl.full([], float("-inf"), tl.float32)
    total = tl.full([], 0.0, tl.float32)
    # The first split always holds a key, so `maximum` is finite from the first round on.
    for split in range(num_splits):
        place = row * num_splits + split
        part_maximum = tl.load(maxima + place)
        new_maximum = tl.maximum(maximum, part_maximum)
        shrink = tl.exp2(maximum - new_maximum)
        weight = tl.exp2(part_maximum - new_maximum)
        part = tl.load(partial + place * head_dim + dims, mask=mask, other=0.0)
        acc = acc * shrink + part * weight
        total = total * shrink + tl.load(totals + place) * weight
        maximum = new_maximum
    tl.store(out + row * head_dim + dims, (acc / total).to(out.dtype.element_ty), mask=mask)


def attention(
    q: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    batch: AttentionBatch,
    scale: float,
    window: int | None,
    softcap: float | None,
    num_cores: int,
) -> Tensor:
    """As `reference.attention`; `num_cores` is the device's number of multiprocessors."""
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    if q.shape[0] == 0:
        return out
    assert q.stride(2) == k_pages.stride(3) == 1, "heads must be contiguous"
    assert k_pages.stride() == v_pages.stride(), "keys and values must be laid out alike"
    if batch.max_query_len == 1:
        _decode(q, k_pages, v_pages, batch, scale, window, softcap, num_cores, out)
    else:
        _varlen(q, k_pages, v_pages, batch, scale, window, softcap, out)
    return out


def _varlen(
    q: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    batch: AttentionBatch,
    scale: float,
    window: int | None,
    softcap: float | None,
    out: Tensor,
) -> None:
    num_tokens, num_heads, head_dim = q.shape
    num_kv_heads = k_pages.shape[1]
    group = num_heads // num_kv_heads
    group_block = triton.next_power_of_2(group)
    dim = max(16, triton.next_power_of_2(head_dim))
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
        PAGE_SIZE=batch.page_size,
        PRECISION=_precision(q),
        QUERIES=tile.queries,
        KEYS=tile.keys,
        DIM=dim,
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
    )


def _decode(
    q: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    batch: AttentionBatch,
    scale: float,
    window: int | None,
    softcap: float | None,
    num_cores: int,
    out: Tensor,
) -> None:
    num_tokens, num_heads, head_dim = q.shape
    num_kv_heads = k_pages.shape[1]
    group = num_heads // num_kv_heads
    dim = max(16, triton.next_power_of_2(head_dim))
    tile = tuning.decode_tile(triton.next_power_of_2(group), dim, q.dtype)
    num_sequences = batch.seq_lens.shape[0]
    keys = batch.max_seq_len if window is None else min(window, batch.max_seq_len)
    splits = tuning.num_splits(num_sequences * num_kv_heads, keys, num_cores)
    shape = (num_tokens, num_heads, splits) if splits > 1 else (0, 0, 0)
    partial = torch.empty((*shape, head_dim), dtype=torch.float32, device=q.device)
    maxima = torch.empty(shape, dtype=torch.float32, device=q.device)
    totals = torch.empty(shape, dtype=torch.float32, device=q.device)
    _decode_kernel[(num_sequences, num_kv_heads, splits)](
        q,
        k_pages,
        v_pages,
        out,
        partial,
        maxima,
        totals,
        batch.query_starts,
        batch.seq_lens,
        batch.rows,
        batch.page_table,
        splits,
        q.stride(0),
        q.stride(1),
        batch.page_table.stride(0),
        k_pages.stride(0),
        k_pages.stride(1),
        k_pages.stride(2),
        num_heads,
        head_dim,
        scale,
        softcap or 0.0,
        GROUP=group,
        WINDOW=window or 0,
        SOFTCAP=softcap is not None,
        PAGE_SIZE=batch.page_size,
        PRECISION=_precision(q),
        SPLIT=splits > 1,
        QUERIES=tile.queries,
        KEYS=tile.keys,
        DIM=dim,
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
    )
    if splits > 1:
        _merge_kernel[(num_tokens * num_heads,)](
            partial, maxima, totals, out, splits, head_dim, DIM=dim, num_warps=1
        )


def _precision(q: Tensor) -> str:
    """fp32 is multiplied exactly; 16-bit operands are exact in any mode."""
    return "ieee" if q.dtype == torch.float32 else "tf32"
