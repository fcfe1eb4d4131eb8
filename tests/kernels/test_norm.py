"""RMSNorm, alone and with the residual addition."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from quire.kernels.table import Ops

Check = Callable[[Tensor, Tensor], None]


@pytest.mark.parametrize("shape", [(0, 32), (1, 32), (7, 45), (3, 2048), (5, 3, 16), (2, 4, 40)])
@pytest.mark.parametrize("weight_offset", [0.0, 1.0])
def test_rms_norm(
    ops: Ops,
    reference: Ops,
    dtype: torch.dtype,
    shape: tuple[int, ...],
    weight_offset: float,
    randn: Callable[..., Tensor],
    check: Check,
    poison: None,
) -> None:
    x, weight = randn(*shape, dtype=dtype), randn(shape[-1], dtype=dtype)
    expected = reference.rms_norm(x, weight, 1e-6, weight_offset)
    check(ops.rms_norm(x, weight, 1e-6, weight_offset), expected)


def test_rms_norm_of_heads_in_a_fused_projection(
    ops: Ops, reference: Ops, randn: Callable[..., Tensor], check: Check, poison: None
) -> None:
    fused, weight = randn(5, 8 * 16), randn(16)
    k = fused[:, 4 * 16 : 6 * 16].unflatten(1, (2, 16))  # [T, K, D], strided
    check(ops.rms_norm(k, weight, 1e-5, 0.0), reference.rms_norm(k.clone(), weight, 1e-5, 0.0))
    row = fused[:, 16:64]  # [T, 48], strided
    weight = randn(48)
    check(ops.rms_norm(row, weight, 1e-5, 0.0), reference.rms_norm(row, weight, 1e-5, 0.0))


@pytest.mark.parametrize("shape", [(0, 32), (1, 100), (9, 256)])
@pytest.mark.parametrize("weight_offset", [0.0, 1.0])
def test_add_rms_norm(
    ops: Ops,
    reference: Ops,
    dtype: torch.dtype,
    shape: tuple[int, int],
    weight_offset: float,
    randn: Callable[..., Tensor],
    check: Check,
    poison: None,
) -> None:
    x, residual = randn(*shape, dtype=dtype), randn(*shape, dtype=dtype)
    weight = randn(shape[-1], dtype=dtype)
    normed, total = ops.add_rms_norm(x, residual, weight, 1e-6, weight_offset)
    expected, expected_total = reference.add_rms_norm(x, residual, weight, 1e-6, weight_offset)
    check(normed, expected)
    if dtype == torch.bfloat16 and not x.is_cuda:
        check(total, expected_total)  # Triton's interpreter truncates to bf16
    else:
        assert torch.equal(total, expected_total)


def test_rounding_follows_the_weight_offset(reference: Ops) -> None:
    """Without an offset x is rounded before the weight multiplies it; with one, after."""
    x = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.bfloat16)
    weight = torch.tensor([1.3, 0.7, 1.1], dtype=torch.bfloat16)
    normed = x.float() * torch.rsqrt(x.float().square().mean() + 1e-6)
    plain = reference.rms_norm(x, weight, 1e-6, 0.0)
    assert torch.equal(plain, normed.bfloat16() * weight)
    offset = reference.rms_norm(x, weight, 1e-6, 1.0)
    assert torch.equal(offset, (normed * (weight.float() + 1.0)).bfloat16())
