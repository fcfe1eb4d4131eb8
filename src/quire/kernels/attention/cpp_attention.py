"""Paged attention in C++ (`csrc/attention.cpp`), for bf16 and fp32; torch's for the rest."""

import torch
from torch import Tensor

from quire.kernels.attention import torch_attention
from quire.kernels.batch import AttentionBatch
from quire.kernels.table import Attention
from quire.platform.native import FLOAT, POINTER, SIZE, Library

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
        if not _takes(q, k_pages):
            return torch_attention.attention(q, k_pages, v_pages, batch, scale, window, softcap)
        num_heads, head_dim = q.shape[1:]
        page_stride, head_stride = k_pages.stride()[:2]
        out = torch.empty(q.shape, dtype=q.dtype)
        kernel(
            out.data_ptr(),
            q.data_ptr(),
            k_pages.data_ptr(),
            v_pages.data_ptr(),
            batch.host_query_lens.ctypes.data,
            batch.host_seq_lens.ctypes.data,
            batch.rows.data_ptr(),
            batch.page_table.data_ptr(),
            len(batch.host_seq_lens),
            num_heads,
            k_pages.shape[1],
            head_dim,
            batch.page_size,
            q.stride(0),
            page_stride,
            head_stride,
            batch.page_table.stride(0),
            scale,
            window or 0,
            softcap or 0.0,
            q.dtype == torch.bfloat16,
        )
        return out

    return attention


def _takes(q: Tensor, k_pages: Tensor) -> bool:
    head_dim = q.shape[2]
    if q.dtype != k_pages.dtype or head_dim % 16 != 0:
        return False
    return q.dtype == torch.float32 or (q.dtype == torch.bfloat16 and head_dim >= 32)
