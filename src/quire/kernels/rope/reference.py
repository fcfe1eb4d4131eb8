"""Rotary position embedding in plain torch, vectorised over tokens and heads.

The rotation is done in fp32 and rounded once, also for 16-bit queries and keys.
"""

from torch import Tensor


def rope(q: Tensor, k: Tensor, table: Tensor, positions: Tensor, interleaved: bool) -> None:
    """Rotate the first `rotary_dim` values of each head of q [T, H, D] and k [T, K, D] in place.

    q and k may be strided views (slices of one fused projection). `table` [L, rotary_dim] fp32
    holds cos in its first half and sin in its second; `positions` [T] index its rows. Pair i is
    (x[i], x[i + rotary_dim / 2]), or (x[2i], x[2i + 1]) if `interleaved`.
    """
    rotary_dim = table.shape[1]
    half = rotary_dim // 2
    cos, sin = table[positions].unsqueeze(1).split(half, dim=-1)  # [T, 1, rotary_dim / 2]
    for x in (q, k):
        rotated = x[..., :rotary_dim]
        if interleaved:
            first, second = rotated[..., 0::2], rotated[..., 1::2]
        else:
            first, second = rotated[..., :half], rotated[..., half:]
        a, b = first.float(), second.float()
        # Both results exist before either is stored: in fp32 a and b alias x.
        new_first, new_second = a * cos - b * sin, b * cos + a * sin
        first.copy_(new_first)
        second.copy_(new_second)
