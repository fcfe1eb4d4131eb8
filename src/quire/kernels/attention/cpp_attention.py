"""Paged attention in C++ (`csrc/attention.cpp`), for bf16 and fp32; torch's for the rest."""

from typing import cast

import torch
from torch import Tensor

from quire.kernels.attention import torch_attention
from quire.kernels.batch import AttentionBatch
from quire.kernels.table import Attention
from quire.platform.native import FLOAT, POINTER, SIZE, Library

# What is the same in all layers: addresses of query_lens, seq_lens, rows and page_table; S, P, M
_Step = tuple[tuple[int, int, int, int], int, int, int]
_TYPES = (*(POINTER,) * 8, *(SIZE,) * 9, FLOAT, SIZE, FLOAT, SIZE)


def attention_of(library: Library) -> Attention:
    """The op with the library's kernel."""
    kernel = library.kernel("attention", *_TYPES)

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
        if q.dtype != k_pages.dtype or not takes(q.dtype, q.shape[2]):
            return torch_attention.attention(q, k_pages, v_pages, batch, scale, window, softcap)
        num_kv_heads = k_pages.shape[1]
        step = cast("_Step | None", batch.memo.get((window, num_kv_heads)))
        if step is None:  # the first such layer of the step
            step = batch.memo[window, num_kv_heads] = _addresses(batch)
        addresses, sequences, page_size, table_width = step
        _, heads, head_dim = q.shape
        page_stride, head_stride, _, _ = k_pages.stride()
        out = torch.empty(q.shape, dtype=q.dtype)
        kernel(
            out.data_ptr(), q.data_ptr(), k_pages.data_ptr(), v_pages.data_ptr(), *addresses,
            sequences, heads, num_kv_heads, head_dim, page_size, q.stride(0), page_stride,
            head_stride, table_width, scale, window or 0, softcap or 0.0, q.dtype == torch.bfloat16,
        )  # fmt: skip
        return out

    return attention


def _addresses(batch: AttentionBatch) -> _Step:
    addresses = (
        batch.host_query_lens.ctypes.data,
        batch.host_seq_lens.ctypes.data,
        batch.rows.data_ptr(),
        batch.page_table.data_ptr(),
    )
    return addresses, len(batch.host_seq_lens), batch.page_size, batch.page_table.stride(0)


def takes(dtype: torch.dtype, head_dim: int) -> bool:
    """Whether the kernel is for such queries, keys and values."""
    if head_dim % 16 != 0:
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and head_dim >= 32)
