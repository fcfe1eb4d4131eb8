"""When prompts take Hopper's attention kernel (`gluon_prefill`), and its launch."""

import torch
from torch import Tensor

from quire.kernels.attention import blocks
from quire.kernels.attention.gluon_prefill import prefill_kernel
from quire.kernels.batch import AttentionBatch
from quire.kernels.hopper import num_cores
from quire.kernels.sizes import power_of_2

LOG2_E = 1.4426950408889634


def serves(q: Tensor, k_pages: Tensor) -> bool:
    """Whether `prefill` takes the call. For less than half a block of rows it has no gain but one:
    no other kernel has to be compiled in the middle of serving."""
    return k_pages.dtype == q.dtype and fits(q, k_pages)


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
    if softcap is not None:
        scale *= 2 / softcap
    prefill_kernel[(min(num_items, num_cores(q.device)),)](
        q,
        k_pages,
        v_pages,
        out,
        plan,
        num_kv_heads,
        batch.rows,
        batch.page_table,
        q.stride(0),
        q.stride(1),
        out.stride(0),
        batch.page_table.stride(0),
        k_pages.stride(0),
        k_pages.stride(1),
        k_pages.stride(2),
        head_dim,
        scale * LOG2_E,
        (softcap or 0.0) * LOG2_E,
        GROUP=group,
        WINDOW=window or 0,
        SOFTCAP=softcap is not None,
        PADDED=head_dim < dim,
        PAGE_SIZE=batch.page_size,
        STAGES=2,
        KEYS=128 if dim <= 128 else 64,
        DIM=dim,
        num_warps=4,
    )
