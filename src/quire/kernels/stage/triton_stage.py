"""A decode step's inputs from the device rows, and its tokens back to them, in Triton.

A handful of integers a sequence: what counts is that each is one launch. Both are chained
(`triton_chain`) to what comes behind them, and appending to what comes before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from quire.kernels.sizes import cdiv
from quire.kernels.triton_chain import chained, let_next_start, wait_for_input

if TYPE_CHECKING:
    from torch import Tensor

LINES = 128


@triton.jit(do_not_specialize=["num_lines"])
def _stage_kernel(
    tokens: tl.tensor,  # [R, L] int32
    page_table: tl.tensor,  # [R, M] int32
    rows: tl.tensor,  # [S] int32
    seq_lens: tl.tensor,
    new_pages: tl.tensor,
    token_ids: tl.tensor,  # [S] int64
    positions: tl.tensor,
    slots: tl.tensor,
    num_lines: tl.tensor,
    token_stride: tl.tensor,
    table_stride: tl.tensor,
    page_size: tl.tensor,
    LINES: tl.constexpr,
    PDL: tl.constexpr,
) -> None:
    let_next_start(PDL)
    line = tl.program_id(0) * LINES + tl.arange(0, LINES)
    inside = line < num_lines
    row = tl.load(rows + line, mask=inside, other=0).to(tl.int64)
    seq_len = tl.load(seq_lens + line, mask=inside, other=0)
    real = inside & (seq_len > 0)
    at = tl.maximum(seq_len - 1, 0).to(tl.int64)
    entry = page_table + row * table_stride + at // page_size
    new_page = tl.load(new_pages + line, mask=inside, other=-1)
    entered = real & (new_page >= 0)
    tl.store(entry, new_page, mask=entered)
    old_page = tl.load(entry, mask=real & (new_page < 0), other=0)
    page = tl.where(entered, new_page, old_page).to(tl.int64)
    token = tl.load(tokens + row * token_stride + at, mask=real, other=0)
    tl.store(token_ids + line, token.to(tl.int64), mask=inside)
    tl.store(positions + line, at, mask=inside)
    tl.store(slots + line, tl.where(real, page * page_size + at % page_size, -1), mask=inside)


@triton.jit(do_not_specialize=["num_lines"])
def _append_kernel(
    tokens: tl.tensor,  # [R, L] int32
    rows: tl.tensor,  # [S] int32
    seq_lens: tl.tensor,
    sampled: tl.tensor,  # [S] int64
    num_lines: tl.tensor,
    token_stride: tl.tensor,
    LINES: tl.constexpr,
    PDL: tl.constexpr,
) -> None:
    line = tl.program_id(0) * LINES + tl.arange(0, LINES)
    inside = line < num_lines
    let_next_start(PDL)
    wait_for_input(PDL)
    row = tl.load(rows + line, mask=inside, other=0).to(tl.int64)
    seq_len = tl.load(seq_lens + line, mask=inside, other=0)
    token = tl.load(sampled + line, mask=inside, other=0)
    place = tokens + row * token_stride + seq_len
    tl.store(place, tl.maximum(token, 0).to(tl.int32), mask=inside & (seq_len > 0))


def stage(
    tokens: Tensor,
    page_size: int,
    page_table: Tensor,
    rows: Tensor,
    seq_lens: Tensor,
    new_pages: Tensor,
    token_ids: Tensor,
    positions: Tensor,
    slots: Tensor,
) -> None:
    """As `reference.stage`."""
    num_lines = rows.shape[0]
    _stage_kernel[(cdiv(num_lines, LINES),)](
        tokens,
        page_table,
        rows,
        seq_lens,
        new_pages,
        token_ids,
        positions,
        slots,
        num_lines,
        tokens.stride(0),
        page_table.stride(0),
        page_size,
        LINES=LINES,
        PDL=chained(tokens)["PDL"],
        num_warps=4,
    )


def append(tokens: Tensor, rows: Tensor, seq_lens: Tensor, sampled: Tensor) -> None:
    """As `reference.append`."""
    num_lines = rows.shape[0]
    _append_kernel[(cdiv(num_lines, LINES),)](
        tokens, rows, seq_lens, sampled, num_lines, tokens.stride(0), LINES=LINES, num_warps=4,
        **chained(tokens),
    )  # fmt: skip
