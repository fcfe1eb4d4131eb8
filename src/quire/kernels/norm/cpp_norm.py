"""RMSNorm in C++ (`csrc/rms_norm.cpp`), for bf16 and fp32; torch's for the rest."""

import torch
from torch import Tensor

from quire.kernels.norm import reference
from quire.kernels.table import AddRmsNorm, RmsNorm
from quire.platform.native import FLOAT, KERNEL_DTYPES, POINTER, SIZE, Library


def norms_of(library: Library) -> tuple[RmsNorm, AddRmsNorm]:
    kernel = library.kernel("rms_norm", *[POINTER] * 5, *[SIZE] * 3, FLOAT, FLOAT, SIZE)

    def rms_norm(x: Tensor, weight: Tensor, eps: float, weight_offset: float) -> Tensor:
        if x.dtype not in KERNEL_DTYPES or weight.dtype != x.dtype:
            return reference.rms_norm(x, weight, eps, weight_offset)
        if x.dim() != 2 or x.stride(1) != 1:
            x = x.contiguous()
        size = x.shape[-1]
        stride = x.stride(0) if x.dim() == 2 else size
        out = torch.empty(x.shape, dtype=x.dtype)
        kernel(
            x.data_ptr(), None, weight.data_ptr(), out.data_ptr(), None,
            x.numel() // size, size, stride, eps, weight_offset, x.dtype == torch.bfloat16,
        )  # fmt: skip
        return out

    def add_rms_norm(
        x: Tensor, residual: Tensor, weight: Tensor, eps: float, weight_offset: float
    ) -> tuple[Tensor, Tensor]:
        if x.dtype not in KERNEL_DTYPES or not x.dtype == weight.dtype == residual.dtype:
            return reference.add_rms_norm(x, residual, weight, eps, weight_offset)
        rows, size = x.shape
        x, residual = x.contiguous(), residual.contiguous()
        out, total = torch.empty(x.shape, dtype=x.dtype), torch.empty(x.shape, dtype=x.dtype)
        kernel(
            x.data_ptr(), residual.data_ptr(), weight.data_ptr(), out.data_ptr(), total.data_ptr(),
            rows, size, size, eps, weight_offset, x.dtype == torch.bfloat16,
        )  # fmt: skip
        return out, total

    return rms_norm, add_rms_norm
