"""Activations, gated and plain."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from quire.kernels.activation.reference import ACTIVATIONS, gated_act
from quire.kernels.table import Ops


@pytest.mark.filterwarnings("ignore:overflow encountered in exp")  # in Triton's interpreter
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("shape", [(0, 32), (1, 2), (5, 90), (3, 1100)])
def test_gated_act(
    ops: Ops,
    reference: Ops,
    dtype: torch.dtype,
    activation: str,
    shape: tuple[int, int],
    randn: Callable[..., Tensor],
    check: Callable[[Tensor, Tensor], None],
    poison: None,
) -> None:
    x = randn(*shape, dtype=dtype) * 3
    check(ops.gated_act(x, activation), reference.gated_act(x, activation))


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_the_gate_is_activated(activation: str, randn: Callable[..., Tensor]) -> None:
    x = randn(4, 24)
    gated = torch.cat([x, torch.ones_like(x)], dim=1)
    torch.testing.assert_close(gated_act(gated, activation), ACTIVATIONS[activation](x))
    assert gated_act(gated.bfloat16(), activation).dtype == torch.bfloat16
