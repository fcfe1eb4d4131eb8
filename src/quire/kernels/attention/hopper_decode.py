"""When single queries take Hopper's attention kernel (`gluon_decode`), and its launch."""

import triton
from torch import Tensor

from quire.kernels.attention import tuning
from quire.kernels.attention.gluon_decode import decode_kernel
from quire.kernels.attention.hopper_prefill import LOG2_E, fits
from quire.kernels.attention.parts import num_programs
from quire.kernels.batch import AttentionBatch
from quire.kernels.hopper import num_cores
from quire.kernels.table import HeadNorm, Rope
from quire.kernels.triton_chain import UNCHAINED, chained


def serves(q: Tensor, k_pages: Tensor) -> bool:
    """Whether `decode` takes the call."""
    num_heads, head_dim = q.shape[1:]
    lines = triton.next_power_of_2(num_heads // k_pages.shape[1] + 1)
    dtypes = k_pages.dtype == q.dtype or k_pages.itemsize == 1
    return dtypes and fits(q, k_pages) and lines * head_dim <= tuning.MAX_HEADS


def decode(
    q: Tensor,
    k: Tensor | None,
    v: Tensor | None,
    norm: HeadNorm | None,
    rope: Rope | None,
    k_pages: Tensor,
    v_pages: Tensor,
    batch: AttentionBatch,
    scale: float,
    softcap: float | None,
    out: Tensor,
    partial: Tensor,
    weights_of: Tensor,
) -> None:
    """As `triton_decode.decode`."""
    assert batch.parts is not None
    num_tokens, num_heads, head_dim = q.shape
    num_parts, num_kv_heads = len(batch.parts), k_pages.shape[1]
    group = num_heads // num_kv_heads
    dim = partial.shape[2]
    members = triton.next_power_of_2(group)
    cores = num_cores(q.device)
    per_core = tuning.programs_per_core(num_tokens * num_kv_heads / cores)
    chain = chained(q) if num_tokens in tuning.CHAINED and k is not None else UNCHAINED
    new_k, new_v = q if k is None else k, q if v is None else v
    if softcap is not None:
        scale *= 2 / softcap
    programs = min(num_programs(num_tokens, num_kv_heads, cores), num_parts)
    decode_kernel[(num_kv_heads, programs)](
        q,
        new_k,
        new_v,
        q if norm is None else norm.q_weight,
        q if norm is None else norm.k_weight,
        weights_of if rope is None else rope.table,
        k_pages,
        v_pages,
        out,
        partial,
        weights_of,
        batch.arrivals,
        batch.parts,
        batch.page_table,
        q.stride(0),
        q.stride(1),
        new_k.stride(0),
        new_k.stride(1),
        new_v.stride(0),
        new_v.stride(1),
        batch.page_table.stride(0),
        k_pages.stride(0),
        k_pages.stride(1),
        k_pages.stride(2),
        num_heads,
        head_dim,
        0.0 if norm is None else norm.eps,
        0.0 if norm is None else norm.weight_offset,
        scale * LOG2_E,
        (softcap or 0.0) * LOG2_E,
        PREPARE=k is not None,
        NORM=norm is not None,
        OFFSET=norm is not None and norm.weight_offset != 0.0,
        ROTATE=rope is not None,
        INTERLEAVED=rope is not None and rope.interleaved,
        HALF=0 if rope is None else rope.table.shape[1] // 2,
        GROUP=group,
        SOFTCAP=softcap is not None,
        PADDED=head_dim < dim,
        PAGE_SIZE=batch.page_size,
        QUERIES=max(8, triton.next_power_of_2(group + 1)),
        STAGES=tuning.decode_stages(dim, k_pages.itemsize, per_core, chain["PDL"]),
        DIM=dim,
        MEMBERS=members,
        PARTS=min(16, tuning.JOIN_TILE // (members * dim)),
        num_warps=4,
        maxnreg=tuning.DECODE_REGISTERS,
        **chain,
    )
