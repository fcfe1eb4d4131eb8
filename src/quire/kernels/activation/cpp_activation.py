"""Gated activations in C++ (`csrc/gated_act.cpp`), for bf16 and fp32; torch's for the rest."""

import torch
from torch import Tensor

from quire.kernels.activation import reference
from quire.kernels.table import GatedAct
from quire.platform.native import KERNEL_DTYPES, POINTER, SIZE, Library

# As csrc/activation.h counts them.
ACTIVATIONS = {None: 0, "silu": 1, "gelu": 2, "gelu_tanh": 3, "relu": 4, "relu2": 5}


def gated_act_of(library: Library) -> GatedAct:
    kernel = library.kernel("gated_act", POINTER, POINTER, *[SIZE] * 5)

    def gated_act(x: Tensor, activation: str) -> Tensor:
        if x.dtype not in KERNEL_DTYPES:
            return reference.gated_act(x, activation)
        assert x.stride(1) == 1, "a token's gate and up must be contiguous"
        rows, size = x.shape[0], x.shape[1] // 2
        out = torch.empty((rows, size), dtype=x.dtype)
        kernel(
            x.data_ptr(), out.data_ptr(), rows, size, x.stride(0),
            ACTIVATIONS[activation], x.dtype == torch.bfloat16,
        )  # fmt: skip
        return out

    return gated_act
