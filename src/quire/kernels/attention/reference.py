"""Paged attention in plain torch, a sequence at a time, everything in fp32."""

import torch
from torch import Tensor

from quire.kernels.batch import AttentionBatch


def attention(
    q: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    batch: AttentionBatch,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """q [T, H, D], k_pages and v_pages [N, K, P, D] of any dtype -> [T, H, D] in q's dtype.

    Query head h reads KV head h // (H / K). The query at position i sees keys j <= i, and with
    a window W only those with i - W < j. With a soft cap c the scaled scores s become
    c * tanh(s / c) before masking. Pages and slots that no query sees are never read.
    """
    num_tokens, num_heads, head_dim = q.shape
    num_kv_heads, page_size = k_pages.shape[1], batch.page_size
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    start = 0
    for i, (query_len, seq_len) in enumerate(
        zip(batch.host_query_lens.tolist(), batch.host_seq_lens.tolist(), strict=True)
    ):
        if query_len == 0:
            continue
        offset = seq_len - query_len  # the first query's position
        first = 0 if window is None else max(0, offset - window + 1)
        keys = torch.arange(first, seq_len, device=q.device)  # [L] positions some query sees
        pages = batch.page_table[batch.rows[i]][keys // page_size].long()
        k = k_pages[pages, :, keys % page_size].float()  # [L, K, D]
        v = v_pages[pages, :, keys % page_size].float()
        groups = q[start : start + query_len].float().view(query_len, num_kv_heads, -1, head_dim)
        scores = torch.einsum("qkgd,lkd->kgql", groups, k) * scale
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        queries = torch.arange(offset, seq_len, device=q.device).unsqueeze(1)  # [query_len, 1]
        visible = keys <= queries
        if window is not None:
            visible &= keys > queries - window
        weights = scores.masked_fill(~visible, float("-inf")).softmax(-1)
        result = torch.einsum("kgql,lkd->qkgd", weights, v)
        out[start : start + query_len] = result.reshape(query_len, num_heads, head_dim).to(q.dtype)
        start += query_len
    assert start == num_tokens, "query_lens do not add up to the number of tokens"
    return out
