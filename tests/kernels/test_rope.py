"""Rotary embedding: halves and pairs, whole heads and parts, strided views."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from quire.kernels.table import Ops

Check = Callable[[Tensor, Tensor], None]


def make_table(length: int, rotary_dim: int, device: torch.device) -> Tensor:
    frequencies = 10000.0 ** (-torch.arange(0, rotary_dim, 2) / rotary_dim)
    angles = torch.arange(length)[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1).to(device)


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize(
    ("num_tokens", "heads", "kv_heads", "head_dim", "rotary_dim"),
    [(0, 2, 1, 16, 16), (1, 1, 1, 16, 16), (6, 5, 3, 80, 20), (3, 4, 2, 96, 96), (2, 9, 9, 64, 64)],
)
def test_rope(
    ops: Ops,
    reference: Ops,
    dtype: torch.dtype,
    num_tokens: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    rotary_dim: int,
    interleaved: bool,
    device: torch.device,
    randn: Callable[..., Tensor],
    check: Check,
) -> None:
    table = make_table(50, rotary_dim, device)
    positions = torch.arange(num_tokens, device=device) * 7 + 3
    width = (heads + 2 * kv_heads) * head_dim
    fused = randn(num_tokens, width, dtype=dtype)  # q, k, v of a fused projection
    expected = fused.clone()

    def parts(x: Tensor) -> tuple[Tensor, Tensor]:
        q, k, _ = x.split([heads * head_dim, kv_heads * head_dim, kv_heads * head_dim], dim=1)
        return q.unflatten(1, (heads, head_dim)), k.unflatten(1, (kv_heads, head_dim))

    ops.rope(*parts(fused), table, positions, interleaved)
    reference.rope(*parts(expected), table, positions, interleaved)
    check(fused, expected)


def test_rotation_keeps_length_and_depends_on_distance_alone(
    reference: Ops, device: torch.device, randn: Callable[..., Tensor]
) -> None:
    table = make_table(40, 16, device)
    vector = randn(1, 1, 16).expand(2, 1, 16)
    scores = []
    for shift in (0, 11):
        q, k = vector.clone(), vector.clone()
        reference.rope(q, k, table, torch.tensor([2, 9], device=device) + shift, False)
        torch.testing.assert_close(q.norm(dim=-1), vector.norm(dim=-1))
        scores.append(q[1, 0] @ k[0, 0])
    torch.testing.assert_close(scores[0], scores[1])
