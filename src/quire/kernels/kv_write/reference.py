"""Writing keys and values into pages, in plain torch."""

from torch import Tensor


def write_kv(k: Tensor, v: Tensor, k_pages: Tensor, v_pages: Tensor, slots: Tensor) -> None:
    """Store k, v [T, K, D] at `slots` [T] int64 of k_pages, v_pages [N, K, P, D].

    Slot s is offset s % P of page s // P. Slot -1 marks a padding token: nothing is written.
    k and v may be strided views. Slots of one call are distinct.
    """
    page_size = k_pages.shape[2]
    if slots.numel() and bool(slots.min() < 0):
        kept = slots >= 0
        k, v, slots = k[kept], v[kept], slots[kept]
    pages, offsets = slots // page_size, slots % page_size
    k_pages[pages, :, offsets] = k.to(k_pages.dtype)  # [T, K, D]
    v_pages[pages, :, offsets] = v.to(v_pages.dtype)
