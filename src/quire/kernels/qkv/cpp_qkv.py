"""Head norms, rotation and storing in C++ (`csrc/prepare_qkv.cpp`), for bf16 and fp32; torch's
for the rest."""

import torch
from torch import Tensor

from quire.kernels.qkv import reference
from quire.kernels.table import HeadNorm, PrepareQKV, Rope
from quire.platform.native import FLOAT, KERNEL_DTYPES, POINTER, SIZE, Library


def prepare_qkv_of(library: Library) -> PrepareQKV:
    kernel = library.kernel("prepare_qkv", *[POINTER] * 10, *[SIZE] * 12, FLOAT, FLOAT, SIZE)

    def prepare_qkv(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        norm: HeadNorm | None,
        rope: Rope | None,
        positions: Tensor,
        k_pages: Tensor,
        v_pages: Tensor,
        slots: Tensor,
    ) -> None:
        weights = () if norm is None else (norm.q_weight, norm.k_weight)
        if q.dtype not in KERNEL_DTYPES or any(x.dtype != q.dtype for x in (*weights, k_pages)):
            reference.prepare_qkv(q, k, v, norm, rope, positions, k_pages, v_pages, slots)
            return
        tokens, heads, head_dim = q.shape
        page_stride, head_stride = k_pages.stride()[:2]
        kernel(
            q.data_ptr(), k.data_ptr(), v.data_ptr(),
            norm and norm.q_weight.data_ptr(), norm and norm.k_weight.data_ptr(),
            rope and rope.table.data_ptr(), positions.data_ptr(),
            k_pages.data_ptr(), v_pages.data_ptr(), slots.data_ptr(),
            tokens, heads, k.shape[1], head_dim, k_pages.shape[2],
            q.stride(0), k.stride(0), v.stride(0), page_stride, head_stride,
            rope.table.shape[1] if rope else 0, rope.interleaved if rope else 0,
            norm.eps if norm else 0.0, norm.weight_offset if norm else 0.0,
            q.dtype == torch.bfloat16,
        )  # fmt: skip

    return prepare_qkv
