"""The linear layer on a CPU: own kernels on weights as they are, torch where it is faster."""

from collections.abc import Callable

import torch
from torch import Tensor

from quire.kernels.matmul import reference
from quire.kernels.table import Linear
from quire.platform.native import POINTER, SIZE, Library
from quire.quant.layouts.layout import Dense, Layout

# As csrc/activation.h counts them.
ACTIVATIONS = {None: 0, "silu": 1, "gelu": 2, "gelu_tanh": 3, "relu": 4, "relu2": 5}
# Beyond, torch's matmul is the faster one though it repacks the weight each time: on one core
# (EPYC Zen 5, 2026-11) 330 and 306 GFLOP/s at 64 rows, 340 both at 128, 330 and 403 at 512.
MOST_ROWS = 128


def linear_of(library: Library) -> Linear:
    """`linear` with the library's kernels."""
    matmul_bf16 = library.kernel("matmul_bf16", POINTER, SIZE, *[POINTER] * 3, *[SIZE] * 5)

    def linear(
        weight: Layout, bias: Tensor | None, activation: str | None
    ) -> Callable[[Tensor], Tensor]:
        """As `reference.linear`."""
        other = reference.linear(weight, bias, activation)
        if not isinstance(weight, Dense) or weight.dtype != torch.bfloat16:
            return other
        held = weight.weight
        number = ACTIVATIONS[activation]
        outputs, inputs = held.shape[0] // (2 if activation else 1), held.shape[1]

        def product(x: Tensor) -> Tensor:
            rows = x.shape[0]
            if rows > MOST_ROWS:
                return other(x)
            y = torch.empty((rows, outputs), dtype=torch.bfloat16)
            matmul_bf16(
                x.data_ptr(), x.stride(0), held.data_ptr(),
                None if bias is None else bias.data_ptr(),
                y.data_ptr(), outputs, rows, outputs, inputs, number,
            )  # fmt: skip
            return y

        return product

    return linear
