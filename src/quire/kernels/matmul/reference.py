"""The linear layer in plain torch: the weight as its layout stands for it, then one matmul."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from quire.kernels.activation.reference import gated_act
from quire.quant.layouts.layout import Layout


def linear(
    weight: Layout, bias: Tensor | None, activation: str | None
) -> Callable[[Tensor], Tensor]:
    """The function of a layer: x [T, in] -> x W^T + b [T, out].

    With an `activation` the weight's rows are gate, then up, and the result is
    act(gate) * up [T, out / 2]. The weight may be filled later.
    """

    def product(x: Tensor) -> Tensor:
        return F.linear(x, weight.dequantize(), bias)

    return product if activation is None else lambda x: gated_act(product(x), activation)
