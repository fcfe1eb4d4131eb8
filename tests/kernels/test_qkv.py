"""Head norms, rotation and storing of q, k and v: every slot hit, nothing else touched."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from quire.kernels.qkv.reference import rotate
from quire.kernels.table import HeadNorm, Ops, Rope

Check = Callable[[Tensor, Tensor], None]
NUM_PAGES = 5


def make_rope(rotary_dim: int, interleaved: bool, device: torch.device) -> Rope:
    frequencies = 10000.0 ** (-torch.arange(0, rotary_dim, 2) / rotary_dim)
    angles = torch.arange(80)[:, None] * frequencies
    return Rope(torch.cat([angles.cos(), angles.sin()], dim=1).to(device), interleaved)


SHAPES = [  # tokens, heads, KV heads, head dim, rotary dim, page size
    (0, 2, 1, 16, 16, 8),
    (1, 1, 1, 16, 16, 8),
    (6, 5, 3, 80, 20, 16),
    (3, 4, 2, 96, 96, 8),
    (9, 9, 9, 64, 64, 64),
    (4, 8, 1, 112, 0, 8),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("norm_offset", [None, 0.0, 1.0], ids=["no norm", "norm", "norm + 1"])
@pytest.mark.parametrize("interleaved", [False, True], ids=["halves", "pairs"])
def test_prepare_qkv(
    ops: Ops,
    reference: Ops,
    dtype: torch.dtype,
    shape: tuple[int, ...],
    norm_offset: float | None,
    interleaved: bool,
    device: torch.device,
    randn: Callable[..., Tensor],
    check: Check,
) -> None:
    num_tokens, heads, kv_heads, head_dim, rotary_dim, page_size = shape
    rope = make_rope(rotary_dim, interleaved, device) if rotary_dim else None
    norm = None
    if norm_offset is not None:
        weights = randn(2, head_dim, dtype=dtype)
        norm = HeadNorm(weights[0], weights[1], 1e-6, norm_offset)
    fused = randn(num_tokens, (heads + 2 * kv_heads) * head_dim, dtype=dtype)
    pages = randn(2, NUM_PAGES, kv_heads, page_size, head_dim, dtype=dtype)
    slots = torch.randperm(NUM_PAGES * page_size, generator=torch.Generator().manual_seed(1))
    slots = slots[:num_tokens].to(device)
    slots[3::5] = -1  # padding
    positions = torch.arange(num_tokens, device=device) * 7 + 3

    def run(prepare: Callable[..., None]) -> tuple[Tensor, Tensor]:
        """-> (q, pages) after it"""
        qkv, cache = fused.clone(), pages.clone()
        q, k, v = qkv.split([heads * head_dim, kv_heads * head_dim, kv_heads * head_dim], dim=1)
        prepare(
            q.unflatten(1, (heads, head_dim)),
            k.unflatten(1, (kv_heads, head_dim)),
            v.unflatten(1, (kv_heads, head_dim)),
            norm,
            rope,
            positions,
            cache[0],
            cache[1],
            slots,
        )
        return q, cache

    q, cache = run(ops.prepare_qkv)
    expected_q, expected_cache = run(reference.prepare_qkv)
    if dtype == torch.bfloat16 and not q.is_cuda:  # Triton's interpreter truncates to bf16
        torch.testing.assert_close(q, expected_q, atol=0.05, rtol=0.03)
        torch.testing.assert_close(cache, expected_cache, atol=0.05, rtol=0.03)
    else:
        check(q, expected_q)
        check(cache, expected_cache)
    stored = torch.zeros(NUM_PAGES * page_size, dtype=torch.bool, device=device)
    stored[slots[slots >= 0]] = True
    untouched = ~stored.view(NUM_PAGES, 1, page_size, 1).expand_as(cache[0])
    assert torch.equal(cache[:, untouched], pages[:, untouched])


@pytest.mark.parametrize("cache_dtype", [torch.float8_e4m3fn, torch.float8_e5m2], ids=str)
def test_pages_of_8_bits(
    ops: Ops,
    reference: Ops,
    cache_dtype: torch.dtype,
    device: torch.device,
    randn: Callable[..., Tensor],
) -> None:
    """What is beyond their range becomes its end. Triton's interpreter cannot round to 8 bits, so
    there nothing needs it."""
    k, v = randn(2, 3, 2, 80, dtype=torch.bfloat16)
    if device.type == "cpu":
        k, v = (x.to(cache_dtype).to(x.dtype) for x in (k, v))
    k[0, 1, 7], v[1, 0, 79] = -1e5, 3e30
    slots = torch.tensor([9, -1, 31], device=device)
    pages = randn(2, 4, 2, 8, 80).to(cache_dtype)
    expected = pages.clone()
    for prepare, into in ((ops.prepare_qkv, pages), (reference.prepare_qkv, expected)):
        prepare(k.clone(), k.clone(), v, None, None, slots, into[0], into[1], slots)
    assert torch.equal(pages.float(), expected.float())
    assert pages.float()[0, 1, 1, 1, 7] == -torch.finfo(cache_dtype).max
    assert pages.float().isfinite().all()


def test_the_reference_stores_token_by_token(
    reference: Ops, device: torch.device, randn: Callable[..., Tensor]
) -> None:
    k, v = randn(2, 3, 2, 16)
    pages = torch.zeros(2, 4, 2, 8, 16, device=device)
    slots = torch.tensor([9, -1, 31], device=device)
    reference.prepare_qkv(k.clone(), k, v, None, None, slots, pages[0], pages[1], slots)
    expected = torch.zeros_like(pages)
    for token, slot in enumerate(slots.tolist()):
        if slot >= 0:
            expected[0, slot // 8, :, slot % 8] = k[token]
            expected[1, slot // 8, :, slot % 8] = v[token]
    assert torch.equal(pages, expected)


def test_only_padding(ops: Ops, device: torch.device, randn: Callable[..., Any]) -> None:
    pages = randn(2, 2, 1, 8, 16)
    before = pages.clone()
    x, slots = randn(3, 1, 16), torch.full((3,), -1, device=device)
    ops.prepare_qkv(x, x, x, None, None, slots, pages[0], pages[1], slots)
    assert torch.equal(pages, before)


def test_rotation_keeps_length_and_depends_on_distance_alone(
    device: torch.device, randn: Callable[..., Tensor]
) -> None:
    rope = make_rope(16, False, device)
    vector = randn(1, 1, 16).expand(2, 1, 16)
    scores = []
    for shift in (0, 11):
        q, k = vector.clone(), vector.clone()
        for x in (q, k):
            rotate(x, rope, torch.tensor([2, 9], device=device) + shift)
        torch.testing.assert_close(q.norm(dim=-1), vector.norm(dim=-1))
        scores.append(q[1, 0] @ k[0, 0])
    torch.testing.assert_close(scores[0], scores[1])
