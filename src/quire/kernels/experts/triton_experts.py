"""Routed experts in Triton: two grouped matmuls over the tokens sorted by expert.

A (token, choice) pair is a *route*. Routes are sorted by expert and each expert's are cut into
blocks, so that one launch computes all experts whatever the routing, without the host knowing
it: the grid is as large as the worst routing needs, and blocks past the last return at once.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from quire.kernels.activation.triton_activation import gated_act
from quire.kernels.experts import tuning
from quire.kernels.triton_dot import dot


@triton.jit
def _grouped_matmul_kernel(
    x: tl.tensor,  # [num_routes // routes_per_row, depth]
    weight: tl.tensor,  # [X, width, depth]
    out: tl.tensor,  # [num_routes, width]
    order: tl.tensor,  # [num_routes] routes sorted by expert
    starts: tl.tensor,  # [X + 1] where each expert's routes begin in `order`
    blocks: tl.tensor,  # [X + 1] where each expert's blocks begin
    scales: tl.tensor,  # [num_routes] fp32, read if SCALED
    num_experts: tl.tensor,
    routes_per_row: tl.tensor,
    width: tl.tensor,
    depth: tl.tensor,
    x_stride: tl.tensor,
    expert_stride: tl.tensor,
    SCALED: tl.constexpr,
    PRECISION: tl.constexpr,
    ROUTES: tl.constexpr,
    WIDTH: tl.constexpr,
    DEPTH: tl.constexpr,
) -> None:
    block = tl.program_id(0)
    if block < tl.load(blocks + num_experts):
        low = 0
        high = num_experts
        while low < high:  # the expert that owns this block
            middle = (low + high) // 2
            if tl.load(blocks + middle + 1) <= block:
                low = middle + 1
            else:
                high = middle
        expert = tl.cast(low, tl.int64)
        first = tl.load(starts + expert) + (block - tl.load(blocks + expert)) * ROUTES
        index = first + tl.arange(0, ROUTES)
        used = index < tl.load(starts + expert + 1)
        route = tl.load(order + index, mask=used, other=0).to(tl.int64)
        column = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
        x_rows = x + (route // routes_per_row)[:, None] * x_stride
        w_rows = weight + expert * expert_stride + column[None, :].to(tl.int64) * depth
        acc = tl.zeros([ROUTES, WIDTH], tl.float32)
        for start in range(0, depth, DEPTH):
            inner = start + tl.arange(0, DEPTH)
            a_mask = used[:, None] & (inner < depth)[None, :]
            b_mask = (inner < depth)[:, None] & (column < width)[None, :]
            a = tl.load(x_rows + inner[None, :], mask=a_mask, other=0.0)
            b = tl.load(w_rows + inner[:, None], mask=b_mask, other=0.0)
            acc = dot(a, b, acc, PRECISION)
        if SCALED:
            acc *= tl.load(scales + route, mask=used, other=0.0)[:, None]
        place = route[:, None] * width + column[None, :]
        mask = used[:, None] & (column < width)[None, :]
        tl.store(out + place, acc.to(out.dtype.element_ty), mask=mask)


def experts(
    x: Tensor,
    expert_ids: Tensor,
    expert_weights: Tensor,
    gate_up: Tensor,
    down: Tensor,
    activation: str,
) -> Tensor:
    """As `reference.experts`."""
    num_tokens, hidden_size = x.shape
    if num_tokens == 0:
        return torch.empty_like(x)
    num_experts, top_k = gate_up.shape[0], expert_ids.shape[1]
    tile = tuning.tile(num_tokens * top_k, num_experts, x.dtype)
    flat = expert_ids.flatten()
    order = flat.argsort(stable=True)  # [T * k] routes
    bounds = torch.arange(num_experts + 1, device=x.device)
    starts = torch.searchsorted(flat[order], bounds)  # [X + 1]
    blocks = torch.zeros_like(starts)
    torch.cumsum(-(-starts.diff() // tile.routes), 0, out=blocks[1:])
    plan = (order, starts, blocks)
    hidden = _grouped_matmul(x.contiguous(), gate_up, plan, None, top_k, x.dtype, tile)
    hidden = gated_act(hidden, activation)  # [T * k, F]
    scales = expert_weights.flatten().float()
    parts = _grouped_matmul(hidden, down, plan, scales, 1, torch.float32, tile)  # [T * k, E]
    return parts.view(num_tokens, top_k, hidden_size).sum(1).to(x.dtype)


def _grouped_matmul(
    x: Tensor,
    weight: Tensor,
    plan: tuple[Tensor, Tensor, Tensor],
    scales: Tensor | None,
    routes_per_row: int,
    dtype: torch.dtype,
    tile: tuning.Tile,
) -> Tensor:
    """x [T * k / routes_per_row, depth], weight [X, width, depth] -> [T * k, width]."""
    order, starts, blocks = plan
    num_experts, width, depth = weight.shape
    assert weight.stride(1) == depth, "an expert's weight must be contiguous"
    assert weight.stride(2) == 1, "an expert's weight must be contiguous"
    num_routes = order.shape[0]
    out = torch.empty((num_routes, width), dtype=dtype, device=x.device)
    # Each expert in use may leave one block unfilled.
    max_blocks = num_routes // tile.routes + min(num_experts, num_routes)
    _grouped_matmul_kernel[(max_blocks, triton.cdiv(width, tile.width))](
        x,
        weight,
        out,
        order,
        starts,
        blocks,
        order if scales is None else scales,
        num_experts,
        routes_per_row,
        width,
        depth,
        x.stride(0),
        weight.stride(0),
        SCALED=scales is not None,
        PRECISION="ieee" if x.dtype == torch.float32 else "tf32",
        ROUTES=tile.routes,
        WIDTH=tile.width,
        DEPTH=tile.depth,
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
    )
    return out
