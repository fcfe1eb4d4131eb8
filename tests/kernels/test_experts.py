"""Routed experts: balanced, skewed and empty routings."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from quire.kernels.table import Ops


@pytest.mark.parametrize(
    ("num_tokens", "num_experts", "top_k", "routing"),
    [(0, 4, 2, "even"), (1, 8, 2, "even"), (40, 4, 2, "even"), (21, 8, 1, "one"), (5, 3, 3, "all")],
)
def test_experts(
    ops: Ops,
    reference: Ops,
    dtype: torch.dtype,
    num_tokens: int,
    num_experts: int,
    top_k: int,
    routing: str,
    randn: Callable[..., Tensor],
    device: torch.device,
    check: Callable[[Tensor, Tensor], None],
    poison: None,
) -> None:
    hidden, width = 40, 24
    x = randn(num_tokens, hidden, dtype=dtype)
    gate_up = randn(num_experts, 2 * width, hidden, dtype=dtype) / 6
    down = randn(num_experts, hidden, width, dtype=dtype) / 5
    scores = randn(num_tokens, num_experts)
    if routing == "one":  # every token to the same expert
        scores[:, 5] += 100
    weights, ids = scores.softmax(-1).topk(top_k, dim=-1)
    arguments = (x, ids, weights.to(dtype), gate_up, down, "silu")
    check(ops.experts(*arguments), reference.experts(*arguments))


def test_reference_is_the_dense_sum(reference: Ops, randn: Callable[..., Tensor]) -> None:
    x, gate_up, down = randn(6, 8), randn(3, 10, 8), randn(3, 8, 5)
    weights = randn(6, 3).softmax(-1)
    ids = torch.arange(3, device=x.device).expand(6, 3)
    gate, up = torch.einsum("te,xfe->txf", x, gate_up).chunk(2, dim=-1)
    dense = torch.einsum("txf,xef->txe", torch.nn.functional.silu(gate) * up, down)
    expected = (dense * weights[..., None]).sum(1)
    actual = reference.experts(x, ids, weights, gate_up, down, "silu")
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
