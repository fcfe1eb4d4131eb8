"""Activations in plain torch: fp32 mathematics, the result in the input's dtype."""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor


def _relu2(x: Tensor) -> Tensor:
    return F.relu(x).square()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "relu2": _relu2,
}


def gated_act(x: Tensor, activation: str) -> Tensor:
    """x [T, 2F], gate then up -> activation(gate) * up [T, F]."""
    gate, up = x.chunk(2, dim=-1)
    return (ACTIVATIONS[activation](gate.float()) * up.float()).to(x.dtype)
