"""The linear layer on a CPU: own kernels on weights as they are.

A token's product is the same to the last bit in any company. torch's would be a tenth faster for
some hundreds of rows (397 GFLOP/s on one core, ours 364; EPYC Zen 5, 2026-11), but then what an
engine computes again after a crash would differ from what it had told the client.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from quire.kernels.activation.cpp_activation import ACTIVATIONS
from quire.kernels.matmul import reference
from quire.kernels.table import Linear
from quire.platform.native import POINTER, SIZE, Library
from quire.quant.layouts.int4_group import Int4Group
from quire.quant.layouts.layout import Dense, Layout
from quire.quant.layouts.per_channel import Int8Channel


def linear_of(library: Library) -> Linear:
    """`linear` with the library's kernels."""
    dense = library.kernel("matmul_bf16", POINTER, SIZE, *[POINTER] * 3, *[SIZE] * 5)
    int8 = library.kernel("matmul_int8", POINTER, SIZE, *[POINTER] * 4, *[SIZE] * 5)
    int4 = library.kernel("matmul_int4", POINTER, SIZE, *[POINTER] * 4, *[SIZE] * 6)

    def linear(
        weight: Layout, bias: Tensor | None, activation: str | None
    ) -> Callable[[Tensor], Tensor]:
        """As `reference.linear`."""
        other = reference.linear(weight, bias, activation)
        if weight.dtype != torch.bfloat16:
            return other
        outputs, inputs = weight.shape
        outputs //= 2 if activation else 1
        offset = None if bias is None else bias.data_ptr()
        sizes: tuple[int, ...] = outputs, inputs, ACTIVATIONS[activation]
        if isinstance(weight, Int4Group):
            sizes = outputs, inputs, weight.group_size, ACTIVATIONS[activation]

        def run(x: Tensor, kernel: Callable[..., None], *held: int | None) -> Tensor:
            y = torch.empty((x.shape[0], outputs), dtype=torch.bfloat16)
            kernel(
                x.data_ptr(), x.stride(0), *held, offset, y.data_ptr(), outputs, x.shape[0], *sizes
            )
            return y

        match weight:
            case Dense():
                held = weight.weight
                return lambda x: run(x, dense, held.data_ptr())
            case Int8Channel():
                held, scale = weight.weight, weight.scale
                return lambda x: run(x, int8, held.data_ptr(), scale.data_ptr())
            case Int4Group():
                held, scale = weight.weight, weight.scale
                return lambda x: run(x, int4, held.data_ptr(), scale.data_ptr())
            case _:
                return other

    return linear
