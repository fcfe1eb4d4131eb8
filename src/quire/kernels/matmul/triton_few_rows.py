"""x [T, in] times a weight [out, in] for a few tokens: matrix units, bound by reading the weight.

The weight's rows are the dot's long side and the tokens, padded to TOKENS, its short one. Where
the weight has few rows, SPLIT groups of warps each take a part of a step's depth (a batched dot),
so that a small tile has enough loads in flight; with SPLIT 1 a tile of 64 rows or more uses
wgmma. e4m3 weights become 16-bit numbers in registers by way of fp32, which costs half the
instructions of the direct conversion and is as exact; activations are multiplied as they are.

Bytes: the weight, once, and the input once for every ROWS rows. Measured on an H200 (4.29 TB/s)
in a CUDA graph, cold L2, launches included, 16 rows of bf16: [28672, 4096] 56.1 us = 98%,
[4096, 14336] 29.8 us = 92%, [6144, 4096] 15.8 us = 74%, [4096, 4096] 9.9 us = 79%, [128256,
4096] 239 us = 102% (cuBLAS 56.9, 31.7, 15.9, 12.7, 277); 8 rows of e4m3, unchained: 33.3 = 82%,
17.4 = 79%, 9.3 = 63%, 6.9 = 57%. What chaining and other tiles gained since: `tuning.fp8_tile`.
"""

import triton
import triton.language as tl

from quire.kernels.matmul.triton_tile import (
    add_and_begin_norm,
    begin,
    end_norm,
    finish,
    load_squares,
    places,
    tile_rows,
)
from quire.kernels.triton_chain import let_next_start
from quire.kernels.triton_dot import dot


@triton.jit(do_not_specialize=["num_tokens", "num_parts"])  # one binary for any number
def few_rows_kernel(
    x: tl.tensor,  # [T, depth]
    weight: tl.tensor,  # [out, depth], 16-bit or e4m3
    scale: tl.tensor,
    bias: tl.tensor,
    out: tl.tensor,  # [T, width]
    residual: tl.tensor,  # [T, width], read if ADDS
    norm_weight: tl.tensor,  # [width], read if ADDS
    total: tl.tensor,  # [T, width], written if ADDS
    squares: tl.tensor,  # [num_parts, T], written if ADDS, read if PARTS
    num_parts: tl.tensor,
    eps: tl.tensor,
    weight_offset: tl.tensor,
    num_tokens: tl.tensor,
    width: tl.tensor,
    depth: tl.tensor,
    x_stride: tl.tensor,
    SCALED: tl.constexpr,
    BIASED: tl.constexpr,
    ACTIVATION: tl.constexpr,
    EVEN: tl.constexpr,  # DEPTH * SPLIT divides depth
    ROWS: tl.constexpr,
    TOKENS: tl.constexpr,
    DEPTH: tl.constexpr,
    SPLIT: tl.constexpr,
    STAGES: tl.constexpr,
    PDL: tl.constexpr,
    LINES: tl.constexpr,
    ADDS: tl.constexpr,  # the residual, and begins a norm
    PARTS: tl.constexpr,  # of the squares by which x's norm ends; 0: x is not to be normalised
) -> None:
    block = tl.program_id(0)
    rows = tile_rows(block, width, ROWS, ACTIVATION is not None)
    tokens = tl.program_id(1) * TOKENS + tl.arange(0, TOKENS)
    w_rows = weight + rows * depth
    EARLY: tl.constexpr = ACTIVATION is None and not ADDS
    if EARLY:  # few programs are next: a norm's, or attention's
        let_next_start(PDL)
    if ADDS:
        place, inside = places(block, tokens, num_tokens, width, ROWS)
        gain = tl.load(norm_weight + rows)
    begin(w_rows, PDL, LINES)
    if ADDS:
        addend = tl.load(residual + place, mask=inside, other=0.0)
    if PARTS:
        parts = load_squares(squares, num_parts, tokens, num_tokens, PARTS)
    x_rows = x + tokens * x_stride
    used = tokens < num_tokens
    if SPLIT == 1:
        part = tl.arange(0, DEPTH)[None, :]
        w_rows, x_rows, used = w_rows[:, None], x_rows[:, None], used[:, None]
        acc = tl.zeros([ROWS, TOKENS], tl.float32)
    else:
        part = tl.arange(0, SPLIT)[:, None, None] * DEPTH + tl.arange(0, DEPTH)[None, None, :]
        w_rows, x_rows = w_rows[None, :, None], x_rows[None, :, None]
        used = used[None, :, None]
        acc = tl.zeros([SPLIT, ROWS, TOKENS], tl.float32)
    for start in tl.range(0, depth, DEPTH * SPLIT, num_stages=STAGES):
        inner = start + part
        if EVEN:
            w = tl.load(w_rows + inner)
            value = tl.load(x_rows + inner, mask=used, other=0.0)
        else:
            w = tl.load(w_rows + inner, mask=inner < depth, other=0.0)
            value = tl.load(x_rows + inner, mask=used & (inner < depth), other=0.0)
        if SCALED:
            w = w.to(tl.float32).to(value.dtype)
        if SPLIT == 1:
            acc = dot(w, tl.trans(value), acc, "ieee")
        else:
            acc = dot(w, tl.permute(value, [0, 2, 1]), acc, "ieee")
    if not EARLY:  # earlier its programs would crowd where it is free first
        let_next_start(PDL)
    if SPLIT > 1:
        acc = tl.sum(acc, axis=0)
    if PARTS:
        acc = end_norm(acc, parts, depth, eps)
    if ADDS:
        add_and_begin_norm(
            acc, rows, scale, bias, addend, gain, weight_offset, out, total, squares, tokens,
            num_tokens, block, width, ROWS, SCALED, BIASED,
        )  # fmt: skip
    else:
        finish(
            acc, rows, scale, bias, out, tokens, num_tokens, block, width, ROWS, TOKENS, SCALED,
            BIASED, ACTIVATION,
        )  # fmt: skip
