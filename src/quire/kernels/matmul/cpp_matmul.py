"""The linear layer on a CPU: own kernels on weights in panels.

A token's product is the same to the last bit in any company: what an engine computes again after
a crash is what it had told the client.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from quire.kernels.activation.cpp_activation import ACTIVATIONS
from quire.kernels.matmul import reference
from quire.kernels.matmul.cpp_panels import DensePanels, Int4Panels, Int8Panels
from quire.kernels.table import Linear
from quire.platform.native import POINTER, SIZE, Library
from quire.quant.layouts.int4_group import GROUP
from quire.quant.layouts.layout import Layout


def linear_of(library: Library) -> Linear:
    """`linear` with the library's kernels."""
    dense = library.kernel("matmul_bf16", POINTER, SIZE, *[POINTER] * 3, *[SIZE] * 5)
    int8 = library.kernel("matmul_int8", POINTER, SIZE, *[POINTER] * 4, *[SIZE] * 5)
    int4 = library.kernel("matmul_int4", POINTER, SIZE, *[POINTER] * 4, *[SIZE] * 6)

    def linear(
        weight: Layout, bias: Tensor | None, activation: str | None
    ) -> Callable[[Tensor], Tensor]:
        """As `reference.linear`."""
        outputs, inputs = weight.shape
        outputs //= 2 if activation else 1
        sizes: tuple[int, ...] = outputs, inputs, ACTIVATIONS[activation]
        match weight:
            case DensePanels():
                kernel = dense
            case Int8Panels():
                kernel = int8
            case Int4Panels():
                kernel = int4
                sizes = outputs, inputs, GROUP, ACTIVATIONS[activation]
            case _:
                return reference.linear(weight, bias, activation)
        held = list(weight.tensors().values())  # the kernels' order

        def product(x: Tensor) -> Tensor:
            assert x.dtype == torch.bfloat16, f"activations are {x.dtype}"
            assert x.stride(1) == 1, "a token's values must be contiguous"
            y = torch.empty((x.shape[0], outputs), dtype=torch.bfloat16)
            kernel(
                x.data_ptr(), x.stride(0), *[tensor.data_ptr() for tensor in held],
                None if bias is None else bias.data_ptr(), y.data_ptr(), outputs,
                x.shape[0], *sizes,
            )  # fmt: skip
            return y

        return product

    return linear
