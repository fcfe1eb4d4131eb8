"""RMSNorm in plain torch. LayerNorm is `torch.nn.functional.layer_norm` and needs no op.

The rounding follows the checkpoints' authors. With `weight_offset` 0 (Llama and most others)
the normalised x is rounded to x's dtype and then multiplied by the weight; with an offset
(Gemma stores w - 1) the product is formed in fp32 and rounded once.
"""

import torch
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float, weight_offset: float) -> Tensor:
    """x [..., E], weight [E] -> x / rms(x) * (weight + offset) [..., E], statistics in fp32."""
    wide = x.float()
    normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    if weight_offset == 0.0:
        return normed.to(x.dtype) * weight.to(x.dtype)
    return (normed * (weight.float() + weight_offset)).to(x.dtype)


def add_rms_norm(
    x: Tensor, residual: Tensor, weight: Tensor, eps: float, weight_offset: float
) -> tuple[Tensor, Tensor]:
    """x, residual [T, E] -> (rms_norm(s), s) where s = x + residual, rounded to x's dtype."""
    total = x + residual
    return rms_norm(total, weight, eps, weight_offset), total
