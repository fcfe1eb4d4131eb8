"""RMSNorm in Triton: a program normalises a few whole rows, statistics in fp32.

In e4m3, for products that want it so, it saves them a pass: 100.1 and 98.3 us of a layer of
Llama-8B with e4m3 weights at 16 tokens, 116.4 and 114.3 at 32, 386.5 and 383.9 at 256 (H200).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from quire.kernels.sizes import cdiv, power_of_2
from quire.kernels.triton_chain import chained, let_next_start, wait_for_input
from quire.kernels.triton_e4m3 import to_e4m3

if TYPE_CHECKING:
    from torch import Tensor

TILE = 2048  # elements of a program when rows are short (heads): enough loads in flight


@triton.jit(do_not_specialize=["num_rows"])
def _rms_norm_kernel(
    x: tl.tensor,  # row r at (r // heads) * token_stride + (r % heads) * head_stride
    residual: tl.tensor,  # [num_rows, size], read if ADD
    weight: tl.tensor,  # [size]
    out: tl.tensor,  # [num_rows, size], e4m3 if QUANTIZES
    scales: tl.tensor,  # [num_rows] fp32, written if QUANTIZES
    total: tl.tensor,  # [num_rows, size] x + residual, written if ADD
    num_rows: tl.tensor,
    heads: tl.tensor,
    token_stride: tl.tensor,
    head_stride: tl.tensor,
    size: tl.tensor,
    eps: tl.tensor,
    weight_offset: tl.tensor,
    ADD: tl.constexpr,
    OFFSET: tl.constexpr,
    QUANTIZES: tl.constexpr,
    ROWS: tl.constexpr,
    SIZE: tl.constexpr,  # size rounded up to a power of two
    PDL: tl.constexpr,
    AHEAD: tl.constexpr,  # whether the next kernel may start before those before are complete
) -> None:
    rows = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)[:, None]
    columns = tl.arange(0, SIZE)[None, :]
    mask = (rows < num_rows) & (columns < size)
    source = (rows // heads) * token_stride + (rows % heads) * head_stride + columns
    place = rows * size + columns
    w = tl.load(weight + columns, mask=columns < size, other=0.0)
    if AHEAD:
        let_next_start(PDL)
    wait_for_input(PDL)
    if not AHEAD:
        let_next_start(PDL)
    values = tl.load(x + source, mask=mask, other=0.0)
    if ADD:
        addend = tl.load(residual + place, mask=mask, other=0.0)
        # Rounded to the stored dtype first: the norm is that of the sum the next layer reads.
        values = (values.to(tl.float32) + addend.to(tl.float32)).to(values.dtype)
        tl.store(total + place, values, mask=mask)
    wide = values.to(tl.float32)
    mean_square = tl.sum(wide * wide, axis=1)[:, None] / size
    normed = wide * tl.rsqrt(mean_square + eps)
    if OFFSET:
        result = (normed * (w.to(tl.float32) + weight_offset)).to(values.dtype)
    else:
        rounded = normed.to(values.dtype).to(tl.float32)
        result = (rounded * w.to(values.dtype).to(tl.float32)).to(values.dtype)
    if QUANTIZES:
        result, steps = to_e4m3(result.to(tl.float32))
        lines = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
        tl.store(scales + lines, steps, mask=lines < num_rows)
    tl.store(out + place, result.to(out.dtype.element_ty), mask=mask)


def _launch(
    x: Tensor,
    residual: Tensor | None,
    weight: Tensor,
    eps: float,
    weight_offset: float,
    e4m3: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """(the norm, the sum), each [rows, E]; or in `e4m3` values [rows, E] and scales [rows] of the
    norm."""
    size = x.shape[-1]
    if x.dim() != 3 or x.stride(-1) != 1:
        x = x.reshape(-1, 1, size)
        x = x if x.stride(-1) == 1 else x.contiguous()
    num_tokens, heads, _ = x.shape
    num_rows = num_tokens * heads
    out, scales = (x.new_empty((num_rows, size)), x) if e4m3 is None else e4m3
    total = out if residual is None else x.new_empty(out.shape)
    if num_rows == 0:
        return out, total
    block = power_of_2(size)
    rows = max(1, TILE // block)
    _rms_norm_kernel[(cdiv(num_rows, rows),)](
        x,
        x if residual is None else residual.contiguous(),
        weight,
        out,
        scales,
        total,
        num_rows,
        heads,
        x.stride(0),
        x.stride(1),
        size,
        eps,
        weight_offset,
        ADD=residual is not None,
        OFFSET=weight_offset != 0.0,
        QUANTIZES=e4m3 is not None,
        ROWS=rows,
        SIZE=block,
        num_warps=min(16, max(4, rows * block // 512)),
        AHEAD=num_tokens == 1,
        **chained(x),
    )
    return out, total


def rms_norm(x: Tensor, weight: Tensor, eps: float, weight_offset: float) -> Tensor:
    """As `reference.rms_norm`. x may be a strided view of heads [T, H, D]."""
    return _launch(x, None, weight, eps, weight_offset)[0].view(x.shape)


def add_rms_norm(
    x: Tensor, residual: Tensor, weight: Tensor, eps: float, weight_offset: float
) -> tuple[Tensor, Tensor]:
    """As `reference.add_rms_norm`."""
    out, total = _launch(x, residual, weight, eps, weight_offset)
    return out.view(x.shape), total.view(x.shape)


def add_rms_norm_e4m3(
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    eps: float,
    weight_offset: float,
    e4m3: tuple[Tensor, Tensor],
) -> Tensor:
    """x + residual [T, E]; its norm in `e4m3`, values [T, E] and the tokens' scales [T]."""
    return _launch(x, residual, weight, eps, weight_offset, e4m3)[1]
