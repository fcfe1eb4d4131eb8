"""Rotary position embedding in Triton: a program rotates a few heads of one token, in place."""

import triton
import triton.language as tl
from torch import Tensor

TILE = 1024  # pairs of one program


@triton.jit
def _rotate(
    x: tl.tensor,  # the token's first head
    cos: tl.tensor,
    sin: tl.tensor,
    heads: tl.tensor,
    head_stride: tl.tensor,
    block: tl.tensor,
    half: tl.tensor,
    INTERLEAVED: tl.constexpr,
    HEADS: tl.constexpr,
    HALF: tl.constexpr,
) -> None:
    head = (block * HEADS + tl.arange(0, HEADS))[:, None]
    pair = tl.arange(0, HALF)[None, :]
    mask = (head < heads) & (pair < half)
    if INTERLEAVED:
        first = x + head * head_stride + 2 * pair
        second = first + 1
    else:
        first = x + head * head_stride + pair
        second = first + half
    a = tl.load(first, mask=mask, other=0.0)
    b = tl.load(second, mask=mask, other=0.0)
    wide_a, wide_b = a.to(tl.float32), b.to(tl.float32)
    tl.store(first, (wide_a * cos - wide_b * sin).to(a.dtype), mask=mask)
    tl.store(second, (wide_b * cos + wide_a * sin).to(b.dtype), mask=mask)


@triton.jit
def _rope_kernel(
    q: tl.tensor,  # [T, H, D], strided
    k: tl.tensor,  # [T, K, D], strided
    table: tl.tensor,  # [L, 2 * half] fp32
    positions: tl.tensor,  # [T]
    q_heads: tl.tensor,
    k_heads: tl.tensor,
    q_token_stride: tl.tensor,
    q_head_stride: tl.tensor,
    k_token_stride: tl.tensor,
    k_head_stride: tl.tensor,
    half: tl.tensor,
    q_blocks: tl.tensor,
    INTERLEAVED: tl.constexpr,
    HEADS: tl.constexpr,
    HALF: tl.constexpr,  # half rounded up to a power of two
) -> None:
    token = tl.program_id(0).to(tl.int64)
    block = tl.program_id(1)
    pair = tl.arange(0, HALF)[None, :]
    row = table + tl.load(positions + token).to(tl.int64) * (2 * half)
    cos = tl.load(row + pair, mask=pair < half, other=0.0)
    sin = tl.load(row + half + pair, mask=pair < half, other=0.0)
    if block < q_blocks:
        x = q + token * q_token_stride
        _rotate(x, cos, sin, q_heads, q_head_stride, block, half, INTERLEAVED, HEADS, HALF)
    else:
        x = k + token * k_token_stride
        block -= q_blocks
        _rotate(x, cos, sin, k_heads, k_head_stride, block, half, INTERLEAVED, HEADS, HALF)


def rope(q: Tensor, k: Tensor, table: Tensor, positions: Tensor, interleaved: bool) -> None:
    """As `reference.rope`. The last dimension of q and k is contiguous."""
    num_tokens = q.shape[0]
    if num_tokens == 0:
        return
    assert q.stride(2) == 1, "heads must be contiguous"
    assert k.stride(2) == 1, "heads must be contiguous"
    half = table.shape[1] // 2
    half_block = triton.next_power_of_2(half)
    heads = max(1, min(TILE // half_block, triton.next_power_of_2(q.shape[1])))
    q_blocks, k_blocks = triton.cdiv(q.shape[1], heads), triton.cdiv(k.shape[1], heads)
    _rope_kernel[(num_tokens, q_blocks + k_blocks)](
        q,
        k,
        table,
        positions,
        q.shape[1],
        k.shape[1],
        q.stride(0),
        q.stride(1),
        k.stride(0),
        k.stride(1),
        half,
        q_blocks,
        INTERLEAVED=interleaved,
        HEADS=heads,
        HALF=half_block,
        num_warps=4,
    )
