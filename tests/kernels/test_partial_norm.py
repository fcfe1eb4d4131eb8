"""A norm between two products, made for them (`linear_add_norm`)."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from quire.kernels.select import triton_ops
from quire.kernels.table import NormParts, Ops, PartialNorm, QuantizedNorm
from quire.quant.layouts.int4_group import Int4Group
from quire.quant.layouts.layout import Dense, Layout
from quire.quant.layouts.per_channel import Fp8Channel

pytest.importorskip("triton")

LAYOUTS = {"dense": Dense, "fp8": Fp8Channel, "int4": Int4Group}
OPS = triton_ops(8, "test")


def made(layout: str, dense: Tensor) -> Layout:
    weight = LAYOUTS[layout].empty(*dense.shape, dense.dtype, dense.device)
    weight.fill(dense)
    return weight


def close(actual: Tensor, expected: Tensor, allowed: float) -> None:
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    difference = (actual.float() - expected.float()).norm() / expected.float().norm()
    assert difference < allowed


@pytest.mark.parametrize("num_tokens", [1, 2, 8, 13, 32, 40, 100, 300])
@pytest.mark.parametrize(
    ("width", "biased", "weight_offset", "activation", "layouts"),
    [
        (48, False, 0.0, None, ("dense", "dense")),
        (70, True, 1.0, "silu", ("dense", "dense")),
        (2064, True, 0.0, "gelu", ("dense", "dense")),
        (96, False, 0.0, "silu", ("fp8", "fp8")),
        (64, False, 1.0, None, ("dense", "int4")),  # which ends none: the norm's own kernel does
    ],
)
def test_norm_between_products(
    reference: Ops,
    device: torch.device,
    width: int,
    biased: bool,
    weight_offset: float,
    activation: str | None,
    layouts: tuple[str, str],
    num_tokens: int,
    randn: Callable[..., Tensor],
    poison: None,
) -> None:
    half = torch.bfloat16
    first = made(layouts[0], randn(width, 136, dtype=half) / 136**0.5)
    second = made(layouts[1], randn(192, width, dtype=half) / width**0.5)
    bias = randn(width, dtype=half) if biased else None
    norm = NormParts(randn(width, dtype=half), 1e-5, weight_offset)
    x, residual = randn(num_tokens, 136, dtype=half), 30 * randn(num_tokens, width, dtype=half)

    assert OPS.linear_add_norm is not None
    begun = OPS.linear_add_norm(first, bias)(x, residual, norm)
    # One token's norm is as fast by itself; so many tokens are the library's.
    assert (begun is None) == (num_tokens in (1, 300))
    if begun is None:
        return
    quantized = isinstance(begun, QuantizedNorm)
    assert quantized == (layouts[0] == "fp8" and num_tokens > 8)
    actual = OPS.linear(second, None, activation)(begun)  # type: ignore[arg-type]

    product = reference.linear(first, bias, None)(x)
    normed, total = reference.add_rms_norm(product, residual, norm.weight, 1e-5, weight_offset)
    expected = reference.linear(second, None, activation)(normed)
    close(begun.total, total, 0.01)
    if isinstance(begun, PartialNorm):
        close(begun.squares.sum(0), total.float().square().sum(1), 0.02)
    # Triton's interpreter cuts off where a GPU rounds, by up to 12% to e4m3, twice.
    close(actual, expected, 0.03 if not quantized else 0.08 if x.is_cuda else 0.2)


def test_sums_that_float16_may_not_hold_are_normalised_at_once(
    device: torch.device, randn: Callable[..., Tensor]
) -> None:
    weight = made("dense", randn(48, 64, dtype=torch.float16))
    x, residual = randn(2, 64, dtype=torch.float16), randn(2, 48, dtype=torch.float16)
    norm = NormParts(randn(48, dtype=torch.float16), 1e-5, 0.0)
    assert OPS.linear_add_norm is not None
    assert OPS.linear_add_norm(weight, None)(x, residual, norm) is None
