"""Paged attention in Triton: one kernel for single queries, one for any number of them."""

import torch
import triton
from torch import Tensor

from quire.kernels.attention import (
    hopper_decode,
    hopper_prefill,
    triton_decode,
    triton_prefill,
)
from quire.kernels.attention.triton_shared import attend_shared
from quire.kernels.batch import AttentionBatch
from quire.kernels.table import HeadNorm, Rope


def attention(
    q: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    batch: AttentionBatch,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """As `reference.attention`. Sequences of one query go through the decode kernel, in a step
    that also prefills too, if the batch has `parts`."""
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    if q.shape[0] == 0:
        return out
    assert q.stride(2) == k_pages.stride(3) == 1, "heads must be contiguous"
    assert k_pages.stride() == v_pages.stride(), "keys and values must be laid out alike"
    planned = batch.parts is not None
    if batch.parts is not None and len(batch.parts):
        _decode(q, None, None, None, None, k_pages, v_pages, batch, scale, softcap, out)
    if batch.max_query_len > 1 or not planned:
        fast = hopper_prefill.serves(q, k_pages)
        prefill = hopper_prefill.prefill if fast else triton_prefill.prefill
        prefill(q, k_pages, v_pages, batch, scale, window, softcap, out, planned)
    return out


def decode_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    norm: HeadNorm | None,
    rope: Rope | None,
    k_pages: Tensor,
    v_pages: Tensor,
    batch: AttentionBatch,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """`prepare_qkv` and `attention` in one launch, for a step of sequences of one query each."""
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    if len(q):
        _decode(q, k, v, norm, rope, k_pages, v_pages, batch, scale, softcap, out)
    return out


def _decode(
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
) -> None:
    assert batch.parts is not None
    _, num_heads, head_dim = q.shape
    num_slots = len(batch.parts) if batch.shared is None else batch.shared.num_slots
    weights_of = torch.empty(num_slots, num_heads, dtype=torch.float32, device=q.device)
    dim = max(64, triton.next_power_of_2(head_dim))
    partial = torch.empty(num_slots, num_heads, dim, dtype=torch.float32, device=q.device)
    left = partial, weights_of
    if batch.shared is not None:
        attend_shared(q, norm, rope, k_pages, v_pages, batch, scale, softcap, *left)
    fast = hopper_decode.serves(q, k_pages)
    chosen = hopper_decode.decode if fast else triton_decode.decode
    chosen(q, k, v, norm, rope, k_pages, v_pages, batch, scale, softcap, out, *left)
