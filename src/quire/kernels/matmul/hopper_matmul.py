"""When tokens take Hopper's matmul kernels (`gluon_many_rows`, `gluon_gated`), and their launch."""

import functools

import torch
import triton
from torch import Tensor
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from quire.kernels.hopper import num_cores
from quire.kernels.matmul import gluon_gated
from quire.kernels.matmul.gluon_gated import gated_kernel
from quire.kernels.matmul.gluon_many_rows import COPY_REGISTERS, many_rows_kernel
from quire.kernels.matmul.tuning import MAX_SPLIT, SharedTile

DTYPES = {
    torch.bfloat16: gl.bfloat16,
    torch.float16: gl.float16,
    torch.float8_e4m3fn: gl.float8e4nv,
}
STEP_BYTES = 128  # of a row's depth at a time: the widest that the copy engine swizzles
SPLIT_SUMS = 64 * 128  # of half a tile, where programs share one
# From which on `gated` was timed: us of gate_up and its activation of 2048 and 8192 tokens, without
# it and with it, 49 and 46, 181 and 162 for Qwen3-0.6B (depth 1024), 195 and 179, 768 and 713 for
# Qwen2.5-1.5B (1536), 161 and 147, 625 and 626 for [9728, 2560]; of Llama-8B see the file.
GATED_TOKENS, GATED_DEPTH = 2048, 1024


def prepare(weight: Tensor, activation: str | None) -> int:
    """Multiprocessors for `many_rows`; 0 where it does not run or the weight does not fit it."""
    cores = num_cores(weight.device)
    num_rows, depth = weight.shape
    width = num_rows if activation is None else num_rows // 2
    if not cores or weight.dtype not in DTYPES or width % 8 or depth * weight.element_size() % 16:
        return 0
    _shared(weight.device)  # not while a CUDA graph is captured
    return cores


def fits(x: Tensor) -> bool:
    """Whether the copy engine can read x [T, in]."""
    return x.data_ptr() % 16 == 0 and x.stride(0) * x.element_size() % 16 == 0


@functools.cache
def _shared(device: torch.device) -> tuple[Tensor, Tensor]:
    """`partial`, and `arrivals` for each power of two. All launches use the same: they follow
    each other on one stream."""
    programs = num_cores(device)
    return (
        torch.empty(programs * 2 * SPLIT_SUMS, dtype=torch.float32, device=device),
        torch.zeros(MAX_SPLIT.bit_length(), 2 * programs, dtype=torch.int32, device=device),
    )


def many_rows(
    x: Tensor,  # [T, in], 16-bit or e4m3
    x_scale: Tensor | None,
    weight: Tensor,
    scale: Tensor | None,
    bias: Tensor | None,
    activation: str | None,
    tile: SharedTile,
    out: Tensor,
) -> None:
    (num_rows, depth), (num_tokens, width) = weight.shape, out.shape
    step = STEP_BYTES // weight.element_size()
    columns = tile.rows
    shape, strides, block = [num_rows, depth], [depth, 1], [tile.rows, step]
    if activation is not None:
        columns //= 2
        shape, strides = [width // 8, 2, 8, depth], [8 * depth, width * depth, depth, 1]
        block = [tile.rows // 16, 2, 8, step]
    # As few as suffice: the kernel before this one may still hold some of the 65536.
    sums = tile.rows * tile.tokens
    registers = 72 if tile.tokens <= 32 else 128 if sums <= SPLIT_SUMS else 168
    chunk = 32 if tile.tokens > 32 else 16 if tile.split <= 2 else 8
    partial, arrivals = _shared(x.device)
    many_rows_kernel[(triton.cdiv(width, 2 * columns) * tile.split,)](
        _descriptor(x, list(x.shape), list(x.stride()), [tile.tokens, step]),
        out if x_scale is None else x_scale,
        _descriptor(weight, shape, strides, block),
        out if scale is None else scale,
        out if bias is None else bias,
        _descriptor(out, list(out.shape), list(out.stride()), [chunk, columns]),
        partial,
        arrivals[tile.split.bit_length() - 1],
        num_tokens,
        width,
        triton.cdiv(depth, step),
        ROWS=tile.rows,
        TOKENS=tile.tokens,
        DEPTH=step,
        STAGES=tile.stages,
        SPLIT=tile.split,
        CHUNK=chunk,
        SCALED=scale is not None,
        BIASED=bias is not None,
        ACTIVATION=activation or "",
        REGISTERS=registers,
        launch_pdl=True,
        num_warps=4,
        maxnreg=triton.cdiv(2 * registers + COPY_REGISTERS.value, 24) * 8,
    )


def gates(x: Tensor, weight: Tensor) -> bool:
    """Whether `gated` takes the call, for a weight that `prepare` found to fit."""
    return (
        len(x) >= GATED_TOKENS
        and weight.shape[1] >= GATED_DEPTH
        and weight.dtype in (torch.bfloat16, torch.float16)
        and fits(x)
    )


def gated(x: Tensor, weight: Tensor, activation: str) -> Tensor:
    """x [T, in], weight [out, in], rows of gate, then up -> act(gate) * up [T, out / 2]."""
    num_tokens, depth = x.shape
    width = weight.shape[0] // 2
    out = x.new_empty((num_tokens, width))
    half, columns, step = (
        size.value for size in (gluon_gated.TOKENS, gluon_gated.COLUMNS, gluon_gated.DEPTH)
    )
    shape, strides = [width // 8, 2, 8, depth], [8 * depth, width * depth, depth, 1]
    blocks = triton.cdiv(num_tokens, 2 * half), triton.cdiv(width, columns)
    registers = 2 * gluon_gated.MULTIPLY_REGISTERS.value + gluon_gated.COPY_REGISTERS.value
    gated_kernel[(min(num_cores(x.device), blocks[0] * blocks[1]),)](
        _descriptor(x, list(x.shape), list(x.stride()), [half, step]),
        _descriptor(weight, shape, strides, [columns // 8, 2, 8, step]),
        _descriptor(out, list(out.shape), list(out.stride()), [half, columns]),
        triton.cdiv(depth, step),
        *blocks,
        ACTIVATION=activation,
        num_warps=4,
        maxnreg=triton.cdiv(registers, 24) * 8,
    )
    return out


def _descriptor(
    tensor: Tensor, shape: list[int], strides: list[int], block: list[int]
) -> TensorDescriptor:
    layout = gl.NVMMASharedLayout.get_default_for(block, DTYPES[tensor.dtype])
    return TensorDescriptor(tensor, shape, strides, block, layout)
