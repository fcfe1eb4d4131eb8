"""Writing keys and values: every slot hit, nothing else touched."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from quire.kernels.table import Ops


@pytest.mark.parametrize(
    ("kv_heads", "head_dim", "page_size"), [(1, 16, 8), (3, 80, 16), (2, 64, 64)]
)
def test_write_kv(
    ops: Ops,
    dtype: torch.dtype,
    kv_heads: int,
    head_dim: int,
    page_size: int,
    device: torch.device,
    randn: Callable[..., Tensor],
) -> None:
    num_pages, num_tokens = 5, 9
    fused = randn(num_tokens, 4 * kv_heads * head_dim, dtype=dtype)
    _, _, k, v = fused.unflatten(1, (4, kv_heads, head_dim)).unbind(1)  # strided views
    k_pages = randn(num_pages, kv_heads, page_size, head_dim, dtype=dtype)
    v_pages = randn(num_pages, kv_heads, page_size, head_dim, dtype=dtype)
    slots = torch.randperm(num_pages * page_size, generator=torch.Generator().manual_seed(1))
    slots = slots[:num_tokens].to(device)
    slots[3] = slots[8] = -1  # padding
    expected_k, expected_v = k_pages.clone(), v_pages.clone()
    for token, slot in enumerate(slots.tolist()):
        if slot >= 0:
            expected_k[slot // page_size, :, slot % page_size] = k[token]
            expected_v[slot // page_size, :, slot % page_size] = v[token]
    ops.write_kv(k, v, k_pages, v_pages, slots)
    assert torch.equal(k_pages, expected_k)
    assert torch.equal(v_pages, expected_v)


def test_no_tokens(ops: Ops, device: torch.device, randn: Callable[..., Tensor]) -> None:
    pages = randn(2, 1, 8, 16)
    before = pages.clone()
    empty = torch.zeros(0, 1, 16, device=device)
    slots = torch.zeros(0, dtype=torch.int64, device=device)
    ops.write_kv(empty, empty, pages, pages, slots)
    assert torch.equal(pages, before)


def test_only_padding(ops: Ops, device: torch.device, randn: Callable[..., Tensor]) -> None:
    pages = randn(2, 1, 8, 16)
    before = pages.clone()
    k = randn(3, 1, 16)
    ops.write_kv(k, k, pages, pages, torch.full((3,), -1, device=device))
    assert torch.equal(pages, before)
