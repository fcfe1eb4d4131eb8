"""x [1, in] times a weight [out, in]: plain multiply-adds, bound by reading the weight.

Bytes: the weight, once. Measured on an H200 (4.29 TB/s) in a CUDA graph, cold L2, launches
included: bf16 [28672, 4096] 54.0 us = 101%, [4096, 14336] 28.1 us = 97%, [6144, 4096] 13.6 us
= 86%, [4096, 4096] 9.2 us = 85% (cuBLAS 55.6, 30.8, 15.5, 12.5); e4m3 29.7 = 92%, 15.3 = 89%,
7.8 = 76%, 5.8 = 68%. About 1.5 us of each are the launch.
"""

import triton
import triton.language as tl

from quire.kernels.matmul.triton_tile import begin, finish, tile_rows
from quire.kernels.triton_chain import let_next_start


@triton.jit
def one_row_kernel(
    x: tl.tensor,  # [1, depth]
    weight: tl.tensor,  # [out, depth], 16-bit or e4m3
    scale: tl.tensor,
    bias: tl.tensor,
    out: tl.tensor,  # [1, width]
    width: tl.tensor,
    depth: tl.tensor,
    SCALED: tl.constexpr,
    BIASED: tl.constexpr,
    ACTIVATION: tl.constexpr,
    EVEN: tl.constexpr,  # DEPTH divides depth
    ROWS: tl.constexpr,
    DEPTH: tl.constexpr,
    STAGES: tl.constexpr,  # of loads in flight; 1 keeps them in registers
    PDL: tl.constexpr,
    LINES: tl.constexpr,
) -> None:
    block = tl.program_id(0)
    rows = tile_rows(block, width, ROWS, ACTIVATION is not None)
    w_rows = weight + rows * depth
    let_next_start(PDL)
    begin(w_rows, PDL, LINES)
    acc = tl.zeros([ROWS, DEPTH], tl.float32)
    for start in tl.range(0, depth, DEPTH, num_stages=STAGES):
        inner = start + tl.arange(0, DEPTH)
        if EVEN:
            w = tl.load(w_rows[:, None] + inner[None, :])
            value = tl.load(x + inner)
        else:
            w = tl.load(w_rows[:, None] + inner[None, :], mask=(inner < depth)[None, :], other=0.0)
            value = tl.load(x + inner, mask=inner < depth, other=0.0)
        acc += w.to(tl.float32) * value.to(tl.float32)[None, :]
    y = tl.sum(acc, axis=1)[:, None]
    token = tl.arange(0, 1)
    finish(y, rows, scale, bias, out, token, 1, block, width, ROWS, 1, SCALED, BIASED, ACTIVATION)
