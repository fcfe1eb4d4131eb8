"""When prompts take Hopper's attention kernel (`gluon_prefill`), and its launch."""

import functools
import math

import torch
from torch import Tensor
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from quire.kernels.attention import blocks
from quire.kernels.attention.gluon_copy import BOX_DIMS, HALF
from quire.kernels.attention.gluon_prefill import prefill_kernel
from quire.kernels.batch import AttentionBatch
from quire.kernels.hopper import num_cores
from quire.kernels.sizes import power_of_2

LOG2_E = 1.4426950408889634


def serves(q: Tensor, k_pages: Tensor) -> bool:
    """Whether `prefill` takes the call. For less than half a block of rows it has no gain but one:
    no other kernel has to be compiled in the middle of serving."""
    return k_pages.dtype == q.dtype and k_pages.shape[2] % 8 == 0 and fits(q, k_pages)


def fits(q: Tensor, k_pages: Tensor) -> bool:
    """Whether these are what the kernels for Hopper read, on a Hopper."""
    head_dim = q.shape[2]
    strides = (*q.stride()[:2], *k_pages.stride()[:3])
    return (
        q.dtype.itemsize == 2
        and head_dim <= 256
        and all(size % 16 == 0 for size in (head_dim, *strides))
        and num_cores(q.device) > 0
    )


def prefill(
    q: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    batch: AttentionBatch,
    scale: float,
    window: int | None,
    softcap: float | None,
    out: Tensor,
    skip_single: bool,
) -> None:
    _, num_heads, head_dim = q.shape
    num_kv_heads = k_pages.shape[1]
    group = num_heads // num_kv_heads
    plan = batch.blocks.get((window, group))
    if plan is None:  # the first such layer of the step
        assert not batch.captured, "a graph's are made before it"
        planned = blocks.plan_blocks(
            batch.host_query_lens, batch.host_seq_lens, group, window, skip_single
        )
        plan = torch.from_numpy(planned).pin_memory().to(q.device, non_blocking=True)
        batch.blocks[window, group] = plan
    num_items = (len(plan) - 1) * num_kv_heads
    dim = max(64, power_of_2(head_dim))
    keys = 128 if dim <= 128 else 64
    box = math.gcd(batch.page_size, keys)
    boxes = [1, 1, box], [keys // box, 1, box]
    boxed = HALF.value % group == 0
    if softcap is not None:
        scale *= 2 / softcap
    prefill_kernel[(min(num_items, num_cores(q.device)),)](
        _boxes(q, [HALF.value // group, group]) if boxed else q,
        *(_boxes(pages, block) for pages in (k_pages, v_pages) for block in boxes),
        out,
        plan,
        num_kv_heads,
        batch.rows,
        batch.page_table,
        q.stride(0),
        q.stride(1),
        out.stride(0),
        batch.page_table.stride(0),
        head_dim,
        scale * LOG2_E,
        (softcap or 0.0) * LOG2_E,
        GROUP=group,
        WINDOW=window or 0,
        SOFTCAP=softcap is not None,
        BOXED=boxed,
        PAGE_SIZE=batch.page_size,
        STAGES=2,
        KEYS=keys,
        DIM=dim,
        num_warps=4,
    )


def _boxes(tensor: Tensor, block: list[int]) -> TensorDescriptor:
    """For the copy engine: boxes of that size and BOX_DIMS of the last dimension."""
    block = [*block, BOX_DIMS.value]
    layout = _layout(tensor.dtype, *block)
    return TensorDescriptor(tensor, list(tensor.shape), list(tensor.stride()), block, layout)


@functools.cache
def _layout(dtype: torch.dtype, *block: int) -> gl.NVMMASharedLayout:
    of = gl.bfloat16 if dtype == torch.bfloat16 else gl.float16
    return gl.NVMMASharedLayout.get_default_for(list(block), of)
