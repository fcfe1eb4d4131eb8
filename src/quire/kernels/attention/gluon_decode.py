"""Paged attention for sequences of one query on Hopper (compute capability 9.0), in Gluon.

What `triton_decode` computes, by programs that stay: each takes an equal share of the step's keys
(`parts`), whole sequences and pieces of two, one after the other. Its warps are specialised: some
copy keys and values into a ring in shared memory (cp.async, since a page may hold any number of
tokens) as far ahead as there is room, into the next sequences too; four prepare the heads and
multiply (wgmma), so that neither the page table, nor a sequence's heads, nor storing what comes out
keeps the memory waiting. The program that finishes a sequence's last part joins them.

The tensor cores' long side are keys and dimensions, which they read where the copies put them, and
the few heads of a group, padded to 8, their short one. Heads as the long side, padded to 16, with
keys and values in registers (mma), took as long but 10% more energy: 689 W instead of 630.

In a chained launch (`triton_chain`) the copies start while the projection of q, k and v still
runs: the keys and values of earlier steps are no output of it.

Shapes: q [T, H, D], k and v [T, K, D] of a 16-bit type, pages [N, K, P, D] of the same one or of
8 bits, which are widened to fp16 on their way to the tensor cores.
Bytes: keys and values of every visible token once, 2 * K * D * itemsize each; a multiprocessor
has 96 or 192 KB of them on their way, where latency times bandwidth is about 40.
H200 (4.29 TB/s), bf16, 32 / 8 heads of 128, 1060 tokens each, in a CUDA graph with cold L2, the
launch included, us and share of the bandwidth: 1 sequence 6.7, 8 14.5 = 56%, 32 39 = 83%, 128
130 = 99%, 256 257 = 100%; one of 16,000 22 = 69%. 8 bits, where widening takes as long as reading:
128 128 = 50%, 256 246 = 53%. (Those of less than 128, and of 8 bits, from before wgmma.)
Of the 4.49 TB/s at which a sum of 2 GiB was read later, 128 and 256 are 95 and 96%.
"""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    async_copy,
    fence_async_shared,
    mbarrier,
    warpgroup_mma,
)
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from quire.kernels.attention import parts as plan
from quire.kernels.attention import tuning
from quire.kernels.attention.gluon_join import join_parts
from quire.kernels.qkv.triton_heads import prepared_heads, stored

try:  # Triton 3.9
    from triton.experimental.gluon.language import barrier
    from triton.experimental.gluon.language.nvidia.ampere.async_copy import async_load
except ImportError:  # Triton 3.6
    from triton.experimental.gluon.language import thread_barrier as barrier
    from triton.experimental.gluon.language.nvidia.ampere.async_copy import (
        async_copy_global_to_shared as async_load,
    )

TOKEN, ROW, SEQ_LEN = gl.constexpr(plan.TOKEN), gl.constexpr(plan.ROW), gl.constexpr(plan.SEQ_LEN)
FIRST, END = gl.constexpr(plan.FIRST), gl.constexpr(plan.END)
PART, NUM_PARTS = gl.constexpr(plan.PART), gl.constexpr(plan.NUM_PARTS)
KEYS = gl.constexpr(tuning.DECODE_KEYS)
COPY_WARPS, COPY_REGISTERS = gl.constexpr(4), gl.constexpr(72)  # the latter of each thread
FIRST_LINE, END_LINE = gl.constexpr(plan.FIRST_LINE), gl.constexpr(plan.END_LINE)
SLOT, AWAITED = gl.constexpr(plan.SLOT), gl.constexpr(plan.AWAITED)
OWN, COLUMNS = gl.constexpr(plan.OWN), gl.constexpr(plan.COLUMNS)


@gluon.jit
def _copy(
    k_pages: gl.tensor,  # of this KV head
    v_pages: gl.tensor,
    parts: gl.tensor,
    lines: gl.tuple,
    page_table: gl.tensor,
    strides: gl.tuple,
    head_dim: gl.tensor,
    ring: gl.tuple,
    PREPARE: gl.constexpr,
    PADDED: gl.constexpr,
    PAGE_SIZE: gl.constexpr,
    STAGES: gl.constexpr,
    DIM: gl.constexpr,
) -> None:
    k_tiles, v_tiles, k_full, v_full, empty = ring
    table_stride, page_stride, slot_stride = strides
    WIDTH: gl.constexpr = 128 // k_pages.dtype.element_ty.primitive_bitwidth
    layout: gl.constexpr = gl.BlockedLayout(
        [1, WIDTH], [32 * WIDTH // DIM, DIM // WIDTH], [COPY_WARPS, 1], [1, 0]
    )
    # Unsigned, which takes half the instructions: they are what a multiprocessor is busy with.
    lane = gl.arange(0, KEYS, gl.SliceLayout(1, layout)).to(gl.uint32)
    page_stride = page_stride.to(gl.uint32).to(gl.uint64)
    slot_stride = slot_stride.to(gl.uint32)
    dims = gl.arange(0, DIM, gl.SliceLayout(0, layout))
    k_dims = k_pages + dims[None, :]
    v_dims = v_pages + dims[None, :]
    mask = None
    if PADDED:
        mask = (lane >= 0)[:, None] & (dims < head_dim)[None, :]
    stage = 0
    phase = 1
    first_line, end_line = lines
    own = parts + gl.program_id(1) * COLUMNS + OWN
    for line in range(first_line, end_line):
        page_ids = page_table + gl.load(own + ROW).to(gl.int64) * table_stride
        low = gl.load(own + FIRST)
        high = gl.load(own + END)
        if PREPARE:  # the new key does not come from its page
            high = gl.minimum(high, gl.load(own + SEQ_LEN) - 1)
        last = gl.maximum(high - 1, 0).to(gl.uint32)
        page = gl.load(page_ids + gl.minimum(lane + low, last) // PAGE_SIZE)
        for start in range(low, high, KEYS):
            keys = lane + start
            place = page.to(gl.uint32).to(gl.uint64) * page_stride
            place += gl.minimum(keys, last) % PAGE_SIZE * slot_stride
            page = gl.load(page_ids + gl.minimum(keys + KEYS, last) // PAGE_SIZE)
            mbarrier.wait(empty.index(stage), phase)
            async_load(k_tiles.index(stage), k_dims + place[:, None], mask)
            async_copy.mbarrier_arrive(k_full.index(stage), increment_count=False)
            async_load(v_tiles.index(stage), v_dims + place[:, None], mask)
            async_copy.mbarrier_arrive(v_full.index(stage), increment_count=False)
            stage += 1
            if stage == STAGES:
                stage = 0
                phase ^= 1
        own = parts + (line + 1) * COLUMNS


@gluon.jit
def _attend(
    operands: gl.tuple,
    k_pages: gl.tensor,
    v_pages: gl.tensor,
    parts: gl.tensor,
    lines: gl.tuple,
    page_table: gl.tensor,
    outputs: gl.tuple,
    kv_head: gl.tensor,
    sizes: gl.tuple,
    strides: gl.tuple,
    numbers: gl.tuple,
    q_tile: gl.tensor,
    weight_tile: gl.tensor,
    wide_tile: gl.tensor,
    ring: gl.tuple,
    PREPARE: gl.constexpr,
    NORM: gl.constexpr,
    OFFSET: gl.constexpr,
    ROTATE: gl.constexpr,
    INTERLEAVED: gl.constexpr,
    HALF: gl.constexpr,
    GROUP: gl.constexpr,
    SOFTCAP: gl.constexpr,
    PAGE_SIZE: gl.constexpr,
    QUERIES: gl.constexpr,
    STAGES: gl.constexpr,
    DIM: gl.constexpr,
    MEMBERS: gl.constexpr,
    PARTS: gl.constexpr,
    PDL: gl.constexpr,
) -> None:
    q, k, v, q_weight, k_weight, table = operands
    out, partial, weights_of, arrivals = outputs
    num_heads, num_kv_heads, head_dim = sizes
    q_token, q_head, k_token, k_head, v_token, v_head, table_stride, page_stride, slot_stride = (
        strides
    )
    eps, weight_offset, scale, softcap = numbers
    k_tiles, v_tiles, k_full, v_full, empty = ring
    page_dtype: gl.constexpr = k_pages.dtype.element_ty
    dtype: gl.constexpr = q_tile.dtype
    loads: gl.constexpr = gl.BlockedLayout([1, 8], [256 // DIM, DIM // 8], [4, 1], [1, 0])
    # Scores are [KEYS, QUERIES] and sums [DIM, QUERIES]: the tensor cores' long side are the keys
    # and the dimensions, and a group's few heads their short one.
    mma: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, QUERIES, 16])
    member = gl.arange(0, QUERIES, gl.SliceLayout(1, loads))[:, None]
    dim = gl.arange(0, DIM, gl.SliceLayout(0, loads))[None, :]
    key = gl.arange(0, KEYS, gl.SliceLayout(1, mma))[:, None]
    out_member = gl.arange(0, QUERIES, gl.SliceLayout(0, mma))
    out_dim = gl.arange(0, DIM, gl.SliceLayout(1, mma))
    out_inside = out_dim < head_dim
    out_mask = out_inside[:, None] & (out_member < GROUP)[None, :]
    queries = q_tile.permute((1, 0))
    zeros = gl.full([KEYS, QUERIES], 0.0, gl.float32, mma)
    stage = 0
    phase = 0
    first_line, end_line = lines
    own = parts + gl.program_id(1) * COLUMNS + OWN
    for line in range(first_line, end_line):
        token = gl.load(own + TOKEN).to(gl.int64)
        row = gl.load(own + ROW)
        seq_len = gl.load(own + SEQ_LEN)
        low = gl.load(own + FIRST)
        high = gl.load(own + END)
        part = gl.load(own + PART)
        num_parts = gl.load(own + NUM_PARTS)
        slot = gl.load(own + SLOT)
        awaited = gl.load(own + AWAITED)
        if PREPARE:
            high = gl.minimum(high, seq_len - 1)
        used = member < GROUP
        source = q + token * q_token + (kv_head * GROUP + member) * q_head
        weight = q_weight
        if PREPARE:  # the new key is one more line of the tile
            at = seq_len - 1
            page = gl.load(page_table + row.to(gl.int64) * table_stride + at // PAGE_SIZE)
            source = gl.where(used, source, k + token * k_token + kv_head * k_head)
            if NORM:
                weight = gl.where(used, q_weight, k_weight)
            used = member <= GROUP
        if PDL:
            gdc_wait()
        heads = prepared_heads(
            source,
            used,
            weight,
            table + (seq_len - 1).to(gl.int64) * (2 * HALF),
            dim,
            HALF,
            head_dim,
            eps,
            weight_offset,
            PREPARE and NORM,
            OFFSET,
            PREPARE and ROTATE,
            INTERLEAVED,
        )
        if PREPARE:
            new_value = v + token * v_token + kv_head * v_head + out_dim
            new_value = gl.load(new_value, mask=out_inside, other=0.0)
            new_value = stored(new_value, page_dtype)
        new_key = stored(heads, page_dtype)
        if page_dtype.primitive_bitwidth == 8:
            wide = gl.minimum(gl.maximum(heads.to(gl.float32), -65504.0), 65504.0)
            heads = gl.where(member == GROUP, new_key.to(gl.float32), wide).to(dtype)
        q_tile.store(heads)
        fence_async_shared()
        # A column that is no head's has no weights.
        maximum = gl.where(out_member < GROUP, float("-inf"), 1e30)
        sums = gl.full([KEYS, QUERIES], 0.0, gl.float32, mma)
        acc = gl.full([DIM, QUERIES], 0.0, gl.float32, mma)
        if PREPARE:  # noqa: SIM102 (a compile-time branch)
            if part == num_parts - 1:
                place = page.to(gl.int64) * page_stride + at % PAGE_SIZE * slot_stride
                new_line = (member == GROUP) & (dim < head_dim)
                gl.store(k_pages + place + (0 * member + dim), new_key, mask=new_line)
                gl.store(v_pages + place + out_dim, new_value, mask=out_inside)
                wide = heads.to(gl.float32)
                last_key = gl.sum(gl.where(member == GROUP, wide, 0.0), axis=0)
                scores = gl.sum(wide * last_key[None, :], axis=1)
                scores = gl.convert_layout(_capped(scores, scale, SOFTCAP), out_member.type.layout)
                factor = softcap if SOFTCAP else scale
                maximum = gl.where(out_member < GROUP, scores * factor, 1e30)
                sums += gl.where((key == 0) & (out_member < GROUP)[None, :], 1.0, 0.0)
                acc += gl.where(
                    (out_member < GROUP)[None, :], new_value.to(gl.float32)[:, None], 0.0
                )
        for start in range(low, high, KEYS):
            mbarrier.wait(k_full.index(stage), phase)
            keys = _widened(k_tiles.index(stage), wide_tile)
            fence_async_shared()  # what was copied is to be read by the tensor cores
            scores = warpgroup_mma(keys, queries, zeros, use_acc=False)
            scores = _capped(scores, scale, SOFTCAP)
            factor = softcap if SOFTCAP else scale
            scores = gl.where(start + key < high, scores, float("-inf"))
            new_maximum = gl.maximum(maximum, gl.max(scores, axis=0) * factor)
            weights = gl.exp2(scores * factor - new_maximum[None, :])
            shrink = gl.exp2(maximum - new_maximum)[None, :]
            sums = sums * shrink + weights
            weight_tile.permute((1, 0)).store(weights.to(dtype))
            mbarrier.wait(v_full.index(stage), phase)
            values = _widened(v_tiles.index(stage), wide_tile)
            fence_async_shared()
            acc = warpgroup_mma(values.permute((1, 0)), weight_tile.permute((1, 0)), acc * shrink)
            maximum = new_maximum
            barrier()
            mbarrier.arrive(empty.index(stage))
            stage += 1
            if stage == STAGES:
                stage = 0
                phase ^= 1
        total = gl.sum(sums, axis=0)
        acc = acc / total[None, :]
        if num_parts == 1:
            head = token * num_heads + kv_head * GROUP + out_member  # in [T, H]
            place = head[None, :] * head_dim + out_dim[:, None]
            gl.store(out + place, acc.to(out.dtype.element_ty), mask=out_mask)
        else:
            head = slot.to(gl.int64) * num_heads + kv_head * GROUP + out_member  # in [slots, H]
            place = head[None, :] * DIM + out_dim[:, None]
            gl.store(weights_of + head, maximum + gl.log2(total), mask=out_member < GROUP)
            gl.store(partial + place, acc, mask=out_mask)
            barrier()  # every thread's stores come before the program's arrival
            counter = arrivals + row * num_kv_heads + kv_head
            if gl.atomic_add(counter, 1, sem="acq_rel") == awaited - 1:
                gl.store(counter, 0)
                join_parts(
                    partial,
                    weights_of,
                    out + (token * num_heads + kv_head * GROUP) * head_dim,
                    (slot - part).to(gl.int64) * num_heads + kv_head * GROUP,
                    num_parts,
                    num_heads,
                    head_dim,
                    GROUP,
                    MEMBERS,
                    PARTS,
                    DIM,
                )
        own = parts + (line + 1) * COLUMNS


@gluon.jit
def _widened(tile: gl.tensor, wide: gl.tensor) -> gl.tensor:
    """Keys or values of 8 bits in the dtype of `wide`, in its place."""
    if tile.dtype.primitive_bitwidth == 8:
        DIM: gl.constexpr = tile.shape[1]
        layout: gl.constexpr = gl.BlockedLayout(
            [1, 16], [512 // DIM, DIM // 16], [gl.num_warps(), 1], [1, 0]
        )
        wide.store(tile.load(layout).to(wide.dtype))
        return wide
    else:  # noqa: RET505 (a compile-time branch)
        return tile


@gluon.jit
def _capped(scores: gl.tensor, scale: gl.tensor, SOFTCAP: gl.constexpr) -> gl.tensor:
    """With a soft cap: cap * tanh(score / cap), over the cap."""
    if SOFTCAP:
        scores = 1.0 - 2.0 / (1.0 + gl.exp2(scores * scale))
    return scores


@gluon.jit
def decode_kernel(
    q: gl.tensor,  # [T, H, D], strided
    k: gl.tensor,  # [T, K, D], strided; k and v are read if PREPARE
    v: gl.tensor,
    q_weight: gl.tensor,
    k_weight: gl.tensor,
    table: gl.tensor,  # [L, 2 * HALF] fp32
    k_pages: gl.tensor,  # [N, K, P, D]
    v_pages: gl.tensor,
    out: gl.tensor,  # [T, H, D]
    partial: gl.tensor,  # [slots, H, DIM] fp32, of parts that are not alone
    weights_of: gl.tensor,  # [slots, H] fp32, log2 of their weight
    arrivals: gl.tensor,  # [R, K] int32, zeros before and after
    parts: gl.tensor,  # [W, COLUMNS]
    page_table: gl.tensor,
    q_token_stride: gl.tensor,
    q_head_stride: gl.tensor,
    k_token_stride: gl.tensor,
    k_head_stride: gl.tensor,
    v_token_stride: gl.tensor,
    v_head_stride: gl.tensor,
    table_stride: gl.tensor,
    page_stride: gl.tensor,
    head_stride: gl.tensor,
    slot_stride: gl.tensor,
    num_heads: gl.tensor,
    head_dim: gl.tensor,
    eps: gl.tensor,
    weight_offset: gl.tensor,
    scale: gl.tensor,  # to units of log2; with a soft cap to twice those over the cap
    softcap: gl.tensor,  # in units of log2
    PREPARE: gl.constexpr,
    NORM: gl.constexpr,
    OFFSET: gl.constexpr,
    ROTATE: gl.constexpr,
    INTERLEAVED: gl.constexpr,
    HALF: gl.constexpr,  # of the dimensions that are rotated
    GROUP: gl.constexpr,  # query heads per KV head
    SOFTCAP: gl.constexpr,
    PADDED: gl.constexpr,  # whether head_dim < DIM
    PAGE_SIZE: gl.constexpr,
    QUERIES: gl.constexpr,
    STAGES: gl.constexpr,
    DIM: gl.constexpr,
    MEMBERS: gl.constexpr,
    PARTS: gl.constexpr,
    PDL: gl.constexpr,
) -> None:
    if PDL:
        gdc_launch_dependents()
    kv_head = gl.program_id(0)
    own = parts + gl.program_id(1) * COLUMNS
    lines = (gl.load(own + FIRST_LINE), gl.load(own + END_LINE))
    page_dtype: gl.constexpr = k_pages.dtype.element_ty
    WIDEN: gl.constexpr = page_dtype.primitive_bitwidth == 8
    # 8 bits become fp16 in one instruction, exactly, and bf16 in three.
    dtype: gl.constexpr = gl.float16 if WIDEN else page_dtype
    tile: gl.constexpr = gl.NVMMASharedLayout.get_default_for([KEYS, DIM], dtype)
    ring_layout: gl.constexpr = gl.SwizzledSharedLayout(16, 1, 8, [1, 0]) if WIDEN else tile
    bar: gl.constexpr = mbarrier.MBarrierLayout()
    q_tile = gl.allocate_shared_memory(dtype, [QUERIES, DIM], tile)
    weight_layout: gl.constexpr = gl.NVMMASharedLayout.get_default_for([QUERIES, KEYS], dtype)
    weight_tile = gl.allocate_shared_memory(dtype, [QUERIES, KEYS], weight_layout)
    wide_tile = q_tile
    if WIDEN:
        wide_tile = gl.allocate_shared_memory(dtype, [KEYS, DIM], tile)
    k_tiles = gl.allocate_shared_memory(page_dtype, [STAGES, KEYS, DIM], ring_layout)
    v_tiles = gl.allocate_shared_memory(page_dtype, [STAGES, KEYS, DIM], ring_layout)
    k_full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], bar)
    v_full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], bar)
    empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], bar)
    for stage in gl.static_range(STAGES):
        mbarrier.init(k_full.index(stage), count=32 * COPY_WARPS)
        mbarrier.init(v_full.index(stage), count=32 * COPY_WARPS)
        mbarrier.init(empty.index(stage), count=1)
    ring = (k_tiles, v_tiles, k_full, v_full, empty)
    k_pages += kv_head.to(gl.int64) * head_stride
    v_pages += kv_head.to(gl.int64) * head_stride
    gl.warp_specialize(
        [
            (
                _attend,
                (
                    (q, k, v, q_weight, k_weight, table),
                    k_pages,
                    v_pages,
                    parts,
                    lines,
                    page_table,
                    (out, partial, weights_of, arrivals),
                    kv_head,
                    (num_heads, gl.num_programs(0), head_dim),
                    (
                        q_token_stride,
                        q_head_stride,
                        k_token_stride,
                        k_head_stride,
                        v_token_stride,
                        v_head_stride,
                        table_stride,
                        page_stride,
                        slot_stride,
                    ),
                    (eps, weight_offset, scale, softcap),
                    q_tile,
                    weight_tile,
                    wide_tile,
                    ring,
                    PREPARE,
                    NORM,
                    OFFSET,
                    ROTATE,
                    INTERLEAVED,
                    HALF,
                    GROUP,
                    SOFTCAP,
                    PAGE_SIZE,
                    QUERIES,
                    STAGES,
                    DIM,
                    MEMBERS,
                    PARTS,
                    PDL,
                ),
            ),
            (
                _copy,
                (
                    k_pages,
                    v_pages,
                    parts,
                    lines,
                    page_table,
                    (table_stride, page_stride, slot_stride),
                    head_dim,
                    ring,
                    PREPARE,
                    PADDED,
                    PAGE_SIZE,
                    STAGES,
                    DIM,
                ),
            ),
        ],
        [COPY_WARPS],
        [COPY_REGISTERS],
    )
