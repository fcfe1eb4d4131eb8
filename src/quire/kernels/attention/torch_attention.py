"""Paged attention through torch's fused attention, for the CPU.

Sequences with one query (decode) are gathered together, padded to the longest of their bucket;
the others go one by one, a block of queries at a time with just the keys it sees. Grouped
query heads share keys and values through views. Only 16-bit gathers stay 16-bit: a soft cap,
which the fused attention lacks, is computed in fp32 by plain matmuls.

A query's result is the same to the last bit however many queries and sequences are computed with
it, so that what was decoded token by token can be computed again as a prompt (after a preemption,
or in another process) and goes on as before. The matmuls inside add up in an order that depends
on their shape, hence three rules: there is always a mask, rows come in fours, and the number of
keys is one of `_padded`'s.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from quire.kernels.batch import AttentionBatch

GATHER_BYTES = 4 << 20  # of keys in one decode call: stays near the cache, bounds memory

# The shapes that agree, found with torch 2.13 (MKL, oneDNN) on x86 with AVX-512, bf16, fp16 and
# fp32, head dims 16 to 256, 2026-11-21: rows in fours, as fewer take other paths; and of the 512
# keys that the fused attention takes at a time, up to 192 or from 384 on, as the sum over a
# number in between is cut in two.
_ROWS = 4
_KEYS = 512
_UNCUT, _CUT_LIKE_ALL = 192, 384
_LANES = 16


@dataclass(frozen=True, slots=True)
class _Block:
    """Queries of a read that share a mask."""

    queries: slice
    keys: slice
    visible: Tensor  # broadcastable to [.., .., queries, keys]


@dataclass(frozen=True, slots=True)
class _Read:
    """Sequences whose keys are gathered together: several with one query each, or one."""

    tokens: Tensor | slice  # of the step; a tensor where each sequence has one query
    pages: Tensor  # [S, 1, m]
    dirty: tuple[Tensor, Tensor]  # (sequence, key) of slots that may hold anything, NaN included
    blocks: list[_Block]


def attention(
    q: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    batch: AttentionBatch,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """As `reference.attention`."""
    num_kv_heads, head_dim = k_pages.shape[1], k_pages.shape[3]
    reads = cast("list[_Read] | None", batch.memo.get((window, num_kv_heads)))
    if reads is None:  # the first such layer of the step
        reads = _plan(batch, window, num_kv_heads, k_pages[0, :, 0].nbytes)
        batch.memo[window, num_kv_heads] = reads
    out = torch.empty(q.shape, dtype=q.dtype)
    for read in reads:
        queries = q[read.tokens]
        k = _gather(k_pages, read).to(q.dtype)  # [S, K, L, D]
        v = _gather(v_pages, read).to(q.dtype)
        if isinstance(read.tokens, Tensor):
            # A KV head's query heads take the place of a prompt's queries: [S * K, 1, G, D].
            groups = queries.reshape(len(queries) * num_kv_heads, 1, -1, head_dim)
            k, v = k.flatten(0, 1).unsqueeze(1), v.flatten(0, 1).unsqueeze(1)
        else:
            groups = queries.unflatten(1, (num_kv_heads, -1)).permute(1, 2, 0, 3)  # [K, G, Q, D]
            k, v = k.transpose(0, 1), v.transpose(0, 1)  # [K, 1, L, D]
        made = [
            _attend(
                groups[:, :, block.queries],
                k[:, :, block.keys],
                v[:, :, block.keys],
                block.visible,
                scale,
                softcap,
            )
            for block in read.blocks
        ]
        result = made[0] if len(made) == 1 else torch.cat(made, 2)
        if isinstance(read.tokens, slice):
            result = result.permute(2, 0, 1, 3)
        out[read.tokens] = result.reshape(queries.shape)
    return out


def _attend(
    q: Tensor, k: Tensor, v: Tensor, visible: Tensor, scale: float, softcap: float | None
) -> Tensor:
    """q [B, G, Q, D], k and v [B, 1, L, D], visible broadcastable to [B, G, Q, L] -> as q."""
    num_queries = q.shape[2]
    if missing := -num_queries % _ROWS:
        q = F.pad(q, (0, 0, 0, missing))
        if visible.shape[2] > 1:
            visible = F.pad(visible, (0, 0, 0, missing), value=True)
    if softcap is None:
        k, v = k.expand(-1, q.shape[1], -1, -1), v.expand(-1, q.shape[1], -1, -1)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=visible, scale=scale)
        return out[:, :, :num_queries]
    scores = q.float() @ k.float().transpose(-1, -2) * scale
    scores = torch.tanh_(scores.div_(softcap)).mul_(softcap)
    scores.masked_fill_(~visible, float("-inf"))
    return (scores.softmax(-1) @ v.float()).to(q.dtype)[:, :, :num_queries]


def _gather(pages: Tensor, read: _Read) -> Tensor:
    """pages [N, K, P, D] -> the tokens that are read [S, K, m * P, D], in one copy."""
    num_pages, num_kv_heads, page_size, head_dim = pages.shape
    heads = torch.arange(num_kv_heads)[:, None]
    if pages.is_contiguous():
        flat = pages.view(num_pages * num_kv_heads, page_size * head_dim)
        tokens = flat.index_select(0, (read.pages * num_kv_heads + heads).flatten())
    else:
        tokens = pages[read.pages, heads]
    tokens = tokens.view(read.pages.shape[0], num_kv_heads, -1, head_dim)
    rows, keys = read.dirty
    tokens[rows, :, keys] = 0  # 0 * NaN is NaN
    return tokens


# --- what to read, the same for all layers of a step ---


def _plan(
    batch: AttentionBatch, window: int | None, num_kv_heads: int, key_bytes: int
) -> list[_Read]:
    query_lens, seq_lens = batch.host_query_lens, batch.host_seq_lens
    starts = np.cumsum(query_lens) - query_lens  # [S]
    reads = []
    singles = np.flatnonzero(query_lens == 1)
    if len(singles):
        ends = seq_lens[singles]
        firsts = np.zeros_like(ends) if window is None else np.maximum(ends - window, 0)
        for bucket in _buckets(ends - firsts, key_bytes):
            reads.append(
                _decode(
                    batch, singles[bucket], starts[singles[bucket]], firsts[bucket], num_kv_heads
                )
            )
    for i in np.flatnonzero(query_lens > 1).tolist():
        reads.append(_prefill(batch, i, int(starts[i]), window))
    return reads


def _buckets(num_keys: np.ndarray, key_bytes: int) -> list[np.ndarray]:
    """Keys by sequence -> index arrays of sequences that waste at most half by padding."""
    buckets = []
    classes = np.ceil(np.log2(num_keys)).astype(np.int64)
    for size_class in np.unique(classes):
        members = np.flatnonzero(classes == size_class)
        limit = max(1, GATHER_BYTES // (key_bytes << int(size_class)))
        buckets += [members[i : i + limit] for i in range(0, len(members), limit)]
    return buckets


def _decode(
    batch: AttentionBatch,
    sequences: np.ndarray,
    tokens: np.ndarray,
    firsts: np.ndarray,
    num_kv_heads: int,
) -> _Read:
    """The last query of each of `sequences`, which see their keys from `firsts` on."""
    length = _padded(int((batch.host_seq_lens[sequences] - firsts // _KEYS * _KEYS).max()))
    pages, dirty, positions = _locate(batch, sequences, firsts, length)
    ends = torch.from_numpy(batch.host_seq_lens[sequences])[:, None]
    visible = (positions >= torch.from_numpy(firsts)[:, None]) & (positions < ends)  # [S, L]
    visible = visible[:, None].expand(-1, num_kv_heads, -1).reshape(-1, 1, 1, length)
    block = _Block(slice(None), slice(length), visible)
    return _Read(torch.from_numpy(tokens.astype(np.int64)), pages, dirty, [block])


def _prefill(batch: AttentionBatch, sequence: int, start: int, window: int | None) -> _Read:
    """All queries of a sequence, whose tokens are [start, start + query_len) of the step."""
    seq_len = int(batch.host_seq_lens[sequence])
    query_len = int(batch.host_query_lens[sequence])
    offset = seq_len - query_len  # the first query's position
    first = 0 if window is None else max(0, offset - window + 1)
    base = first // _KEYS * _KEYS
    pages, dirty, positions = _locate(
        batch, np.array([sequence]), np.array([first]), _padded(seq_len - base)
    )
    blocks = []
    begin = offset
    while begin < seq_len:
        end = min(_block_end(begin), seq_len)
        low = 0 if window is None else max(0, begin - window + 1) // _KEYS * _KEYS - base
        seen = slice(low, _padded(end - base))  # by some query of the block
        keys = positions[:, seen]
        queries = torch.arange(begin, end)[:, None]
        visible = keys <= queries
        if window is not None:
            visible &= keys > queries - window
        blocks.append(_Block(slice(begin - offset, end - offset), seen, visible[None, None]))
        begin = end
    return _Read(slice(start, start + query_len), pages, dirty, blocks)


def _locate(
    batch: AttentionBatch, sequences: np.ndarray, firsts: np.ndarray, length: int
) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
    """Where the keys of each sequence are, from the 512 on that hold position `firsts` [S].

    Returns `_Read.pages`, `_Read.dirty`, and the keys' positions [S, length] on the host.
    """
    page_size = batch.page_size
    index = torch.from_numpy(sequences)
    first = torch.from_numpy(firsts).long()[:, None]  # [S, 1]
    end = torch.from_numpy(batch.host_seq_lens).long()[index][:, None]
    base = first // _KEYS * _KEYS
    columns = base // page_size + torch.arange(-(-length // page_size))  # [S, m]
    last = (end - 1) // page_size
    # Where there is no page, one that is wholly inside will do, if there is one.
    stand_in = torch.minimum((first + page_size - 1) // page_size, last)
    columns = torch.where((columns < first // page_size) | (columns > last), stand_in, columns)
    slots = (columns[:, :, None] * page_size + torch.arange(page_size)).flatten(1)
    rows, keys = ((slots < first) | (slots >= end)).nonzero(as_tuple=True)
    table_rows = batch.rows[index].long()[:, None]
    pages = batch.page_table[table_rows, columns].long()[:, None]
    return pages, (rows, keys), base + torch.arange(length)


def _padded(num_keys: int) -> int:
    """The next number of keys whose sums are the same as with more keys that count nothing."""
    whole, rest = divmod(num_keys, _KEYS)
    if _UNCUT < rest < _CUT_LIKE_ALL:
        rest = _CUT_LIKE_ALL
    return whole * _KEYS + -(-rest // _LANES) * _LANES


def _block_end(position: int) -> int:
    """Where the block of queries ends that begins there: none then reads many keys in vain."""
    whole, rest = divmod(position, _KEYS)
    return whole * _KEYS + next(end for end in (_UNCUT, _CUT_LIKE_ALL, _KEYS) if rest < end)
