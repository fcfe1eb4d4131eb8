"""A few heads of one token, normalised and rotated in registers, and as pages hold them: shared by
Triton kernels."""

import triton
import triton.language as tl


@triton.jit
def prepared_heads(
    source: tl.tensor,  # [R, 1] where each head begins
    used: tl.tensor,  # [R, 1]
    weight: tl.tensor,  # [D] or, one for each head, [R, 1] pointers to such; read if NORM
    rope: tl.tensor,  # [2 * half] the token's line of the table, read if ROTATE
    dim: tl.tensor,  # [1, DIM]
    half: tl.tensor,
    head_dim: tl.tensor,
    eps: tl.tensor,
    weight_offset: tl.tensor,
    NORM: tl.constexpr,
    OFFSET: tl.constexpr,
    ROTATE: tl.constexpr,
    INTERLEAVED: tl.constexpr,
) -> tl.tensor:
    """[R, DIM] in the dtype of `source`, zeros where unused. Rounded as the references round."""
    mask = used & (dim < head_dim)
    # All loads before the first use, so that they are under way together.
    x = tl.load(source + dim, mask=mask, other=0.0)
    if NORM:
        w = tl.load(weight + dim, mask=dim < head_dim, other=0.0)
    if ROTATE:
        # Each value needs the other one of its pair: loaded again rather than moved about.
        if INTERLEAVED:
            is_first = dim % 2 == 0
            partner = tl.where(is_first, dim + 1, dim - 1)
            pair = dim // 2
        else:
            is_first = dim < half
            partner = tl.where(is_first, dim + half, dim - half)
            pair = tl.where(is_first, dim, partner)
        rotates = dim < 2 * half
        y = tl.load(source + partner, mask=used & rotates, other=0.0)
        if NORM:
            y_w = tl.load(weight + partner, mask=rotates, other=0.0)
        cos = tl.load(rope + pair, mask=rotates, other=1.0)
        sin = tl.load(rope + half + pair, mask=rotates, other=0.0)
    if NORM:
        wide = x.to(tl.float32)
        scale = tl.rsqrt(tl.sum(wide * wide, axis=1) / head_dim + eps)[:, None]
        x = _normalised(x, scale, w, weight_offset, OFFSET)
    if ROTATE:
        if NORM:
            y = _normalised(y, scale, y_w, weight_offset, OFFSET)
        turned = y.to(tl.float32) * sin
        x = (x.to(tl.float32) * cos + tl.where(is_first, -turned, turned)).to(x.dtype)
    return x


@triton.jit
def stored(x: tl.tensor, DTYPE: tl.constexpr) -> tl.tensor:
    """x as pages of DTYPE hold it: beyond the range of 8 bits its end."""
    if DTYPE.primitive_bitwidth == 8:
        LIMIT: tl.constexpr = 448.0 if DTYPE.is_fp8e4nv() else 57344.0
        x = tl.clamp(x.to(tl.float32), -LIMIT, LIMIT, tl.PropagateNan.ALL)
    return x.to(DTYPE)


@triton.jit
def _normalised(
    x: tl.tensor,
    scale: tl.tensor,
    weight: tl.tensor,
    weight_offset: tl.tensor,
    OFFSET: tl.constexpr,
) -> tl.tensor:
    """x times its head's 1 / rms, times the weight; rounded as `norm.reference` rounds."""
    normed = x.to(tl.float32) * scale
    if OFFSET:
        result = normed * (weight.to(tl.float32) + weight_offset)
    else:
        result = normed.to(x.dtype).to(tl.float32) * weight.to(x.dtype).to(tl.float32)
    return result.to(x.dtype)
