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
    if SCALED:
        acc *= tl.load(scale + rows)[:, None]
    if BIASED:
        acc += tl.load(bias + rows)[:, None].to(tl.float32)
    y = acc.to(out.dtype.element_ty)
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
