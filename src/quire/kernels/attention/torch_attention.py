"""Paged attention through torch's fused attention, for the CPU.

Sequences with one query (decode) are gathered together, padded to the longest of their bucket;
the others go one by one, a block of queries at a time with just the keys it sees. Grouped
query heads share keys and values through views. Only 16-bit gathers stay 16-bit: a soft cap,
which the fused attention lacks, is computed in fp32 by plain matmuls.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from quire.kernels.batch import AttentionBatch

GATHER_BYTES = 4 << 20  # of keys in one decode call: stays near the cache, bounds memory
QUERY_BLOCK = 512  # queries of a prompt that share one mask


def _gather(pages: Tensor, ids: Tensor) -> Tensor:
    """pages [N, K, P, D], ids [S, m] -> their tokens [S, K, m * P, D], in one copy."""
    num_pages, num_kv_heads, page_size, head_dim = pages.shape
    heads = torch.arange(num_kv_heads, device=pages.device)
    if pages.is_contiguous():
        index = ids[:, None, :] * num_kv_heads + heads[:, None]  # [S, K, m]
        flat = pages.view(num_pages * num_kv_heads, page_size * head_dim)
        tokens = flat.index_select(0, index.flatten())
    else:
        tokens = pages[ids[:, None, :], heads[:, None]]
    return tokens.view(ids.shape[0], num_kv_heads, -1, head_dim)


def _attend(
    q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None, scale: float, softcap: float | None
) -> Tensor:
    """q [B, G, Q, D], k and v [B, 1, L, D], visible broadcastable to [B, G, Q, L] -> as q."""
    if softcap is None:
        k, v = k.expand(-1, q.shape[1], -1, -1), v.expand(-1, q.shape[1], -1, -1)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=visible, scale=scale)
    scores = q.float() @ k.float().transpose(-1, -2) * scale
    scores = torch.tanh_(scores.div_(softcap)).mul_(softcap)
    if visible is not None:
        scores.masked_fill_(~visible, float("-inf"))
    return (scores.softmax(-1) @ v.float()).to(q.dtype)


def _decode(
    q: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    batch: AttentionBatch,
    sequences: np.ndarray,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """q [S, H, D], the only query of each of `sequences` [S] -> [S, H, D]."""
    num_sequences, num_heads, head_dim = q.shape
    num_kv_heads, page_size = k_pages.shape[1], batch.page_size
    index = torch.from_numpy(sequences).to(q.device)
    seq_lens = batch.seq_lens[index].long()[:, None]  # [S, 1]
    firsts = (seq_lens - window).clamp(min=0) if window else torch.zeros_like(seq_lens)
    first_columns = firsts // page_size
    num_columns = int(_columns(batch.host_seq_lens[sequences], window, page_size).max())
    columns = first_columns + torch.arange(num_columns, device=q.device)  # [S, m]
    ids = batch.page_table[batch.rows[index].long()[:, None], _clip(columns, seq_lens, page_size)]
    offsets = torch.arange(num_columns * page_size, device=q.device)
    keys = first_columns * page_size + offsets  # [S, L] positions
    visible = (keys >= firsts) & (keys < seq_lens)
    k, v = _gather(k_pages, ids.long()), _gather(v_pages, ids.long())  # [S, K, L, D]
    if bool(visible.all()):
        mask = None
    else:
        # What no query sees may hold anything, NaN included, and 0 * NaN is NaN.
        rows, hidden = (~visible).nonzero(as_tuple=True)
        k[rows, :, hidden] = 0
        v[rows, :, hidden] = 0
        mask = visible[:, None, None, :].expand(-1, num_kv_heads, 1, -1)
        mask = mask.reshape(num_sequences * num_kv_heads, 1, 1, -1)
    # A KV head's query heads take the place of a prompt's queries: [S * K, 1, G, D].
    out = _attend(
        q.reshape(num_sequences * num_kv_heads, 1, -1, head_dim),
        k.view(num_sequences * num_kv_heads, 1, -1, head_dim),
        v.view(num_sequences * num_kv_heads, 1, -1, head_dim),
        mask,
        scale,
        softcap,
    )
    return out.reshape(num_sequences, num_heads, head_dim)


def _clip(columns: Tensor, seq_lens: Tensor, page_size: int) -> Tensor:
    """Columns past a sequence's last page read that page again (and are masked)."""
    return torch.minimum(columns, (seq_lens - 1) // page_size)


def _columns(seq_lens: np.ndarray, window: int | None, page_size: int) -> np.ndarray:
    """[S] seq_lens -> how many page-table columns the last query of each sees."""
    firsts = np.zeros_like(seq_lens) if window is None else np.maximum(seq_lens - window, 0)
    return (seq_lens - 1) // page_size - firsts // page_size + 1


def _buckets(columns: np.ndarray, column_bytes: int) -> list[np.ndarray]:
    """Columns by sequence -> index arrays of sequences that waste at most half by padding."""
    buckets = []
    classes = np.ceil(np.log2(columns)).astype(np.int64)
    for size_class in np.unique(classes):
        members = np.flatnonzero(classes == size_class)
        limit = max(1, GATHER_BYTES // (column_bytes << int(size_class)))
        buckets += [members[i : i + limit] for i in range(0, len(members), limit)]
    return buckets


def _prefill(
    q: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    page_ids: Tensor,
    seq_len: int,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """q [Q, H, D], the last queries of one sequence with pages `page_ids` [M] -> [Q, H, D]."""
    query_len, num_heads, head_dim = q.shape
    num_kv_heads, page_size = k_pages.shape[1], k_pages.shape[2]
    offset = seq_len - query_len
    first = 0 if window is None else max(0, offset - window + 1)
    column = first // page_size
    ids = page_ids[column : (seq_len - 1) // page_size + 1].long().unsqueeze(0)
    base = column * page_size  # position of the gathered keys' first
    k, v = _gather(k_pages, ids).squeeze(0), _gather(v_pages, ids).squeeze(0)  # [K, L, D]
    groups = q.unflatten(1, (num_kv_heads, -1)).permute(1, 2, 0, 3)  # [K, G, Q, D]
    out = torch.empty(groups.shape, dtype=q.dtype, device=q.device)
    for start in range(0, query_len, QUERY_BLOCK):
        end = min(start + QUERY_BLOCK, query_len)
        high = offset + end  # keys [low, high) are seen by some query of the block
        low = 0 if window is None else max(0, offset + start - window + 1)
        keys = torch.arange(low, high, device=q.device)
        queries = torch.arange(offset + start, offset + end, device=q.device).unsqueeze(1)
        visible = keys <= queries  # [end - start, high - low]
        if window is not None:
            visible &= keys > queries - window
        span = slice(low - base, high - base)
        out[:, :, start:end] = _attend(
            groups[:, :, start:end],
            k[:, None, span],
            v[:, None, span],
            visible[None, None],
            scale,
            softcap,
        )
    return out.permute(2, 0, 1, 3).reshape(query_len, num_heads, head_dim)


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
    query_lens, seq_lens = batch.host_query_lens, batch.host_seq_lens
    starts = np.cumsum(query_lens) - query_lens  # [S]
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    singles = np.flatnonzero(query_lens == 1)
    if len(singles):
        columns = _columns(seq_lens[singles], window, batch.page_size)
        column_bytes = k_pages[0].numel() * k_pages.element_size()
        for bucket in _buckets(columns, column_bytes):
            sequences = singles[bucket]
            tokens = torch.from_numpy(starts[sequences].astype(np.int64)).to(q.device)
            out[tokens] = _decode(
                q[tokens], k_pages, v_pages, batch, sequences, scale, window, softcap
            )
    for i in np.flatnonzero(query_lens > 1).tolist():
        span = slice(int(starts[i]), int(starts[i] + query_lens[i]))
        ids = batch.page_table[batch.rows[i]]
        out[span] = _prefill(
            q[span], k_pages, v_pages, ids, int(seq_lens[i]), scale, window, softcap
        )
    return out
