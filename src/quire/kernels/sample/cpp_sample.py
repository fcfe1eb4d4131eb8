"""Sampling in C++ (`csrc/sample.cpp`), from logits in bf16 or fp32."""

import torch
from torch import Tensor

from quire.kernels.table import DrawNumbers, Sample
from quire.platform.native import KERNEL_DTYPES, POINTER, SIZE, Library


def sample_of(library: Library) -> Sample:
    kernel = library.kernel("sample", *[POINTER] * 8, *[SIZE] * 4)

    def sample(logits: Tensor, numbers: DrawNumbers) -> Tensor:
        rows, size = logits.shape
        if logits.dtype not in KERNEL_DTYPES:
            logits = logits.float()
        if logits.stride(1) != 1:
            logits = logits.contiguous()
        tokens = torch.empty(rows, dtype=torch.int64)
        by_row = [x.contiguous() for x in numbers]
        kernel(
            logits.data_ptr(), *[x.data_ptr() for x in by_row], tokens.data_ptr(),
            rows, size, logits.stride(0), logits.dtype == torch.bfloat16,
        )  # fmt: skip
        return tokens

    return sample
