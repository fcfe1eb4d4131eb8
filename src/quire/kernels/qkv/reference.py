"""Between the projection and attention, in plain torch: normalise heads, rotate, store.

The rotation is done in fp32 and rounded once, also for 16-bit queries and keys.
"""

import torch
from torch import Tensor

from quire.kernels.norm.reference import rms_norm
from quire.kernels.table import HeadNorm, Rope


def prepare_qkv(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    norm: HeadNorm | None,
    rope: Rope | None,
    positions: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    slots: Tensor,
) -> None:
    """Normalise and rotate the heads of q [T, H, D] in place and those of k [T, K, D] on their
    way into the pages; store v [T, K, D] as it is.

    q, k and v may be strided views (slices of one fused projection); what k holds afterwards is
    undefined. `positions` [T] index the rope table. Slot s [T] int64 is offset s % P of page
    s // P of k_pages and v_pages [N, K, P, D]; -1 marks a padding token, of which nothing is
    stored. Slots of one call are distinct. Pages of 8 bits hold the nearest they can, beyond their
    range its end.
    """
    if norm is not None:
        q.copy_(rms_norm(q, norm.q_weight, norm.eps, norm.weight_offset))
        k = rms_norm(k, norm.k_weight, norm.eps, norm.weight_offset)
    if rope is not None:
        rotate(q, rope, positions)
        rotate(k, rope, positions)
    store(k, v, k_pages, v_pages, slots)


def rotate(x: Tensor, rope: Rope, positions: Tensor) -> None:
    """Rotate the first `rotary_dim` values of each head of x [T, H, D] in place. Pair i is
    (x[i], x[i + rotary_dim / 2]), or (x[2i], x[2i + 1]) if interleaved."""
    rotary_dim = rope.table.shape[1]
    half = rotary_dim // 2
    cos, sin = rope.table[positions].unsqueeze(1).split(half, dim=-1)  # [T, 1, rotary_dim / 2]
    rotated = x[..., :rotary_dim]
    if rope.interleaved:
        first, second = rotated[..., 0::2], rotated[..., 1::2]
    else:
        first, second = rotated[..., :half], rotated[..., half:]
    a, b = first.float(), second.float()
    # Both results exist before either is stored: in fp32 a and b alias x.
    new_first, new_second = a * cos - b * sin, b * cos + a * sin
    first.copy_(new_first)
    second.copy_(new_second)


def store(k: Tensor, v: Tensor, k_pages: Tensor, v_pages: Tensor, slots: Tensor) -> None:
    """Keys and values into their slots."""
    page_size = k_pages.shape[2]
    if slots.numel() and bool(slots.min() < 0):
        kept = slots >= 0
        k, v, slots = k[kept], v[kept], slots[kept]
    pages, offsets = slots // page_size, slots % page_size
    k_pages[pages, :, offsets] = _stored(k, k_pages.dtype)  # [T, K, D]
    v_pages[pages, :, offsets] = _stored(v, v_pages.dtype)


def _stored(x: Tensor, dtype: torch.dtype) -> Tensor:
    if dtype.itemsize == 1:
        limit = torch.finfo(dtype).max
        x = x.float().clamp(-limit, limit)
    return x.to(dtype)
