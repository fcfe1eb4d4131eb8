"""What the matmul kernels share: which weight rows a program multiplies, and how it finishes.

A program owns ROWS rows of the weight [out, in] and all of their depth, so no sums meet outside
it. With a gated activation half of its rows are gates and half the ups of the same columns, so
it can finish these columns itself.

Some are chained (`triton_chain`): `begin` asks for the first bytes of the weight, which no kernel
writes, and only then waits for the input.
"""

import triton
import triton.language as tl

from quire.kernels.activation.triton_activation import activate
from quire.kernels.triton_chain import wait_for_input


@triton.jit
def tile_rows(
    block: tl.tensor, width: tl.tensor, ROWS: tl.constexpr, GATED: tl.constexpr
) -> tl.tensor:
    """[ROWS] rows of the weight that program `block` reads; `width` columns come out in all."""
    index = tl.arange(0, ROWS)
    if GATED:
        half: tl.constexpr = ROWS // 2
        column = tl.minimum(block * half + index % half, width - 1)
        return (column + (index // half) * width).to(tl.int64)
    else:  # noqa: RET505 (a compile-time branch)
        return tl.minimum(block * ROWS + index, width - 1).to(tl.int64)


@triton.jit
def begin(rows: tl.tensor, PDL: tl.constexpr, LINES: tl.constexpr) -> None:
    """Ask for `LINES` cache lines of each row ([ROWS] pointers), then wait for the input."""
    if PDL and LINES > 0:
        item: tl.constexpr = rows.dtype.element_ty.primitive_bitwidth
        lines = rows[:, None] + (tl.arange(0, LINES) * (1024 // item))[None, :]
        tl.inline_asm_elementwise(
            "prefetch.global.L2 [$1]; mov.u32 $0, 0;",
            "=r,l",
            [lines],
            dtype=tl.int32,
            is_pure=False,
            pack=1,
        )
    wait_for_input(PDL)


@triton.jit
def _scale(
    acc: tl.tensor,
    rows: tl.tensor,
    scale: tl.tensor,
    bias: tl.tensor,
    SCALED: tl.constexpr,
    BIASED: tl.constexpr,
) -> tl.tensor:
    if SCALED:
        acc *= tl.load(scale + rows)[:, None]
    if BIASED:
        acc += tl.load(bias + rows)[:, None].to(tl.float32)
    return acc


@triton.jit
def finish(
    acc: tl.tensor,  # [ROWS, TOKENS] fp32
    rows: tl.tensor,  # [ROWS]
    scale: tl.tensor,  # [out] fp32, read if SCALED
    bias: tl.tensor,  # [out], read if BIASED
    out: tl.tensor,  # [T, width]
    tokens: tl.tensor,  # [TOKENS]
    num_tokens: tl.tensor,
    block: tl.tensor,
    width: tl.tensor,
    ROWS: tl.constexpr,
    TOKENS: tl.constexpr,
    SCALED: tl.constexpr,
    BIASED: tl.constexpr,
    ACTIVATION: tl.constexpr,
) -> None:
    """Scale, bias and activation, rounded between as separate kernels would round; store."""
    y = _scale(acc, rows, scale, bias, SCALED, BIASED).to(out.dtype.element_ty)
    columns: tl.constexpr = ROWS if ACTIVATION is None else ROWS // 2
    if ACTIVATION is not None:
        pairs = tl.permute(tl.reshape(y, [2, columns, TOKENS]), [1, 2, 0])
        gate, up = tl.split(pairs)
        y = activate(gate.to(tl.float32), ACTIVATION) * up.to(tl.float32)
        y = y.to(out.dtype.element_ty)
    column = block * columns + tl.arange(0, columns)
    place = tokens.to(tl.int64)[:, None] * width + column[None, :]
    mask = (tokens < num_tokens)[:, None] & (column < width)[None, :]
    tl.store(out + place, tl.trans(y), mask=mask)


@triton.jit
def places(
    block: tl.tensor,
    tokens: tl.tensor,  # [TOKENS]
    num_tokens: tl.tensor,
    width: tl.tensor,
    ROWS: tl.constexpr,
) -> tuple:
    """Where the tile is in [T, width], and which of it is there: [TOKENS, ROWS] each."""
    column = block * ROWS + tl.arange(0, ROWS)
    place = tokens.to(tl.int64)[:, None] * width + column[None, :]
    return place, (tokens < num_tokens)[:, None] & (column < width)[None, :]


@triton.jit
def add_and_begin_norm(
    acc: tl.tensor,  # [ROWS, TOKENS] fp32
    rows: tl.tensor,  # [ROWS]
    scale: tl.tensor,
    bias: tl.tensor,
    addend: tl.tensor,  # [TOKENS, ROWS] of the residual
    gain: tl.tensor,  # [ROWS] of the norm's weight
    weight_offset: tl.tensor,
    out: tl.tensor,  # [T, width], `PartialNorm.scaled`
    total: tl.tensor,  # [T, width]
    squares: tl.tensor,  # [programs, T] fp32
    tokens: tl.tensor,  # [TOKENS]
    num_tokens: tl.tensor,
    block: tl.tensor,
    width: tl.tensor,
    ROWS: tl.constexpr,
    SCALED: tl.constexpr,
    BIASED: tl.constexpr,
) -> None:
    """Instead of `finish`, where a sum and its norm follow: as much of them as a tile holds. The
    sum is rounded as by kernels of their own."""
    place, mask = places(block, tokens, num_tokens, width, ROWS)
    y = _scale(acc, rows, scale, bias, SCALED, BIASED).to(out.dtype.element_ty)
    added = (tl.trans(y).to(tl.float32) + addend.to(tl.float32)).to(out.dtype.element_ty)
    tl.store(total + place, added, mask=mask)
    wide = tl.where(mask, added.to(tl.float32), 0.0)
    scaled = wide * (gain.to(tl.float32) + weight_offset)[None, :]
    tl.store(out + place, scaled.to(out.dtype.element_ty), mask=mask)
    part = squares + block * num_tokens + tokens
    tl.store(part, tl.sum(wide * wide, axis=1), mask=tokens < num_tokens)


@triton.jit
def load_squares(
    squares: tl.tensor,  # [num_parts, T] fp32
    num_parts: tl.tensor,
    tokens: tl.tensor,  # [TOKENS]
    num_tokens: tl.tensor,
    PARTS: tl.constexpr,  # num_parts rounded up to a power of two
) -> tl.tensor:
    """[PARTS, TOKENS]: what `add_and_begin_norm` left of these tokens."""
    part = tl.arange(0, PARTS)
    mask = (part < num_parts)[:, None] & (tokens < num_tokens)[None, :]
    return tl.load(squares + part[:, None] * num_tokens + tokens[None, :], mask=mask, other=0.0)


@triton.jit
def end_norm(acc: tl.tensor, squares: tl.tensor, depth: tl.tensor, eps: tl.tensor) -> tl.tensor:
    """acc [ROWS, TOKENS] by the tokens' root mean squares; squares [PARTS, TOKENS]."""
    return acc * tl.rsqrt(tl.sum(squares, axis=0) / depth + eps)[None, :]
