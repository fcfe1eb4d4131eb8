"""Writing keys and values into pages in Triton: a program stores a few heads of one token."""

import triton
import triton.language as tl
from torch import Tensor

TILE = 1024  # elements of keys (and of values) that one program moves


@triton.jit
def _write_kv_kernel(
    k: tl.tensor,  # [T, K, D], strided
    v: tl.tensor,
    k_pages: tl.tensor,  # [N, K, P, D]
    v_pages: tl.tensor,
    slots: tl.tensor,  # [T] int64
    num_heads: tl.tensor,
    head_dim: tl.tensor,
    k_token_stride: tl.tensor,
    k_head_stride: tl.tensor,
    v_token_stride: tl.tensor,
    v_head_stride: tl.tensor,
    page_stride: tl.tensor,
    page_head_stride: tl.tensor,
    page_slot_stride: tl.tensor,
    PAGE_SIZE: tl.constexpr,
    HEADS: tl.constexpr,
    DIM: tl.constexpr,  # head_dim rounded up to a power of two
) -> None:
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + token)
    if slot >= 0:
        head = (tl.program_id(1) * HEADS + tl.arange(0, HEADS))[:, None]
        column = tl.arange(0, DIM)[None, :]
        mask = (head < num_heads) & (column < head_dim)
        page, offset = slot // PAGE_SIZE, slot % PAGE_SIZE
        place = page * page_stride + offset * page_slot_stride + head * page_head_stride + column
        keys = tl.load(k + token * k_token_stride + head * k_head_stride + column, mask=mask)
        values = tl.load(v + token * v_token_stride + head * v_head_stride + column, mask=mask)
        tl.store(k_pages + place, keys.to(k_pages.dtype.element_ty), mask=mask)
        tl.store(v_pages + place, values.to(v_pages.dtype.element_ty), mask=mask)


def write_kv(k: Tensor, v: Tensor, k_pages: Tensor, v_pages: Tensor, slots: Tensor) -> None:
    """As `reference.write_kv`. k_pages and v_pages have the same strides."""
    num_tokens, num_heads, head_dim = k.shape
    if num_tokens == 0:
        return
    assert k.stride(2) == v.stride(2) == k_pages.stride(3) == 1, "heads must be contiguous"
    assert k_pages.stride() == v_pages.stride(), "keys and values must be laid out alike"
    dim = triton.next_power_of_2(head_dim)
    heads = max(1, min(TILE // dim, triton.next_power_of_2(num_heads)))
    _write_kv_kernel[(num_tokens, triton.cdiv(num_heads, heads))](
        k,
        v,
        k_pages,
        v_pages,
        slots,
        num_heads,
        head_dim,
        k.stride(0),
        k.stride(1),
        v.stride(0),
        v.stride(1),
        k_pages.stride(0),
        k_pages.stride(1),
        k_pages.stride(2),
        PAGE_SIZE=k_pages.shape[2],
        HEADS=heads,
        DIM=dim,
        num_warps=4,
    )
