"""Gated activations in Triton: one pass over gate and up, fp32 in registers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from quire.kernels.sizes import cdiv, power_of_2

if TYPE_CHECKING:
    from torch import Tensor

TILE = 1024  # outputs of one program


@triton.jit
def activate(x: tl.tensor, ACTIVATION: tl.constexpr) -> tl.tensor:
    """x fp32 -> activation(x)."""
    if ACTIVATION == "silu":
        y = x * tl.sigmoid(x)
    elif ACTIVATION == "gelu":
        y = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    elif ACTIVATION == "gelu_tanh":
        # (1 + tanh(u)) / 2 = sigmoid(2u)
        y = x * tl.sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))
    elif ACTIVATION == "relu":
        y = tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL)
    else:
        tl.static_assert(ACTIVATION == "relu2", "unknown activation")
        y = tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL)
        y = y * y
    return y


@triton.jit
def _gated_act_kernel(
    x: tl.tensor,  # [T, 2 * width]
    out: tl.tensor,  # [T, width]
    width: tl.tensor,
    row_stride: tl.tensor,
    ACTIVATION: tl.constexpr,
    TILE: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * TILE + tl.arange(0, TILE)
    mask = column < width
    gate = tl.load(x + row * row_stride + column, mask=mask, other=0.0)
    up = tl.load(x + row * row_stride + width + column, mask=mask, other=0.0)
    y = activate(gate.to(tl.float32), ACTIVATION) * up.to(tl.float32)
    tl.store(out + row * width + column, y.to(gate.dtype), mask=mask)


def gated_act(x: Tensor, activation: str) -> Tensor:
    """As `reference.gated_act`."""
    num_tokens, double_width = x.shape
    width = double_width // 2
    out = x.new_empty((num_tokens, width))
    if num_tokens == 0:
        return out
    assert x.stride(1) == 1, "a token's gate and up must be contiguous"
    tile = min(TILE, power_of_2(width))
    _gated_act_kernel[(num_tokens, cdiv(width, tile))](
        x, out, width, x.stride(0), ACTIVATION=activation, TILE=tile, num_warps=4
    )
    return out
