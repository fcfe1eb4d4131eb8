"""Paged prefill attention for Hopper (compute capability 9.0), in Gluon.

A program per multiprocessor works through blocks of 128 rows (see `blocks`). Its warps are
specialised: one has the copy engine bring queries, keys and values to shared memory, ahead of the
others and across blocks; twice four multiply 64 rows each on the tensor cores (wgmma). Nothing but
the tiles' barriers orders the two halves, and they fall into step: one multiplies while the other
computes its softmax. Pages that follow each other in memory are copied a tile at a time. Groups of
heads that are no power of 2 have their queries copied 16 bytes at a time (cp.async).

Key tiles are visited from the newest to the oldest, so that the masked ones come first (the
diagonal) and last (where a sliding window begins) and those in between need no mask. Keys outside
what the rows see may be anything: of such values the copying warp makes zeros, and a page that
holds no other is not read.

Shapes: q and out [T, H, D], k_pages and v_pages [N, K, P, D], all 16-bit. Operations: 4 * H * D
for each visible pair of query and key. Bytes: K and V once per block, from L2.
H200, bf16, causal, 2026-11-22, TFLOP/s (a large matmul: 790) for one prompt of 8000 and for four
of 2048: 32 / 8 heads of 128 554 (70%) and 440 (56%), with pages in random order 552 and 423, 28 / 4
heads of 128 597 and 439, 32 / 8 heads of 64 451 and 340; 2048 tokens onto 16384 605 (77%). A block
costs some microseconds beside its tiles, which is what short prompts feel.
"""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    warpgroup_mma,
    warpgroup_mma_wait,
)

from quire.kernels.attention.gluon_copy import (
    COPY_THREADS,
    HALF,
    copy_blocks,
    item_of,
    num_turns,
)

# Of each thread. Copying gets what the halves leave of a multiprocessor's 504 per four warps.
MULTIPLY_REGISTERS = gl.constexpr(208)
COPY_REGISTERS = gl.constexpr(88)


@gluon.jit
def _softmax(
    scores: gl.tensor,  # [HALF, KEYS] products of queries and keys
    maximum: gl.tensor,  # [HALF] of the scores so far, in units of log2
    total: gl.tensor,  # [HALF] sums of the weights so far
    positions: gl.tensor,  # [HALF] of the queries
    tile: gl.tensor,
    scale: gl.tensor,  # to units of log2; with a soft cap to twice those over the cap
    softcap: gl.tensor,  # in units of log2
    WINDOW: gl.constexpr,
    SOFTCAP: gl.constexpr,
    MASKED: gl.constexpr,
) -> tuple:
    """-> (weights, what brings earlier sums to the new maximum, the new maximum, total)."""
    if SOFTCAP:  # cap * tanh(score / cap)
        scores = 1.0 - 2.0 / (1.0 + gl.exp2(scores * scale))
        scale = softcap
    if MASKED:
        KEYS: gl.constexpr = scores.shape[1]
        keys = tile * KEYS + gl.arange(0, KEYS, gl.SliceLayout(0, scores.type.layout))
        visible = keys[None, :] <= positions[:, None]
        if WINDOW > 0:
            visible = visible & (keys[None, :] > positions[:, None] - WINDOW)
        scores = gl.where(visible, scores, float("-inf"))
    new_maximum = gl.maximum(maximum, gl.max(scores, axis=1) * scale)
    weights = gl.exp2(scores * scale - new_maximum[:, None])
    shrink = gl.exp2(maximum - new_maximum)
    return weights, shrink, new_maximum, total * shrink + gl.sum(weights, axis=1)


@gluon.jit
def _pack(x: gl.tensor, dtype: gl.constexpr) -> gl.tensor:
    """x [HALF, KEYS] fp32 -> [HALF, KEYS / 2] int32, two of 16 bits each. What a loop carries as
    single 16-bit values costs two instructions more for every two of them."""
    ASM: gl.constexpr = (
        "cvt.rn.bf16x2.f32 $0, $2, $1;" if dtype == gl.bfloat16 else "cvt.rn.f16x2.f32 $0, $2, $1;"
    )
    even, odd = x.reshape([x.shape[0], x.shape[1] // 2, 2]).split()
    return gl.inline_asm_elementwise(ASM, "=r,r,r", [even, odd], gl.int32, is_pure=True, pack=1)


@gluon.jit
def _unpack(packed: gl.tensor, dtype: gl.constexpr) -> gl.tensor:
    """The inverse of `_pack`, in 16 bits."""
    even, odd = gl.inline_asm_elementwise(
        "mov.b32 {$0, $1}, $2;", "=h,=h,r", [packed], (gl.int16, gl.int16), is_pure=True, pack=1
    )
    both = gl.join(even, odd).reshape([packed.shape[0], packed.shape[1] * 2])
    return both.to(dtype, bitcast=True)


@gluon.jit
def _multiply(
    half: gl.tensor,  # which rows of a block
    out: gl.tensor,
    plan: gl.tensor,
    num_items: gl.tensor,
    num_kv_heads: gl.tensor,
    out_token_stride: gl.tensor,
    head_dim: gl.tensor,
    scale: gl.tensor,
    softcap: gl.tensor,
    ring: gl.tuple,
    GROUP: gl.constexpr,
    WINDOW: gl.constexpr,
    SOFTCAP: gl.constexpr,
    BOXED: gl.constexpr,
    STAGES: gl.constexpr,
    KEYS: gl.constexpr,
    DIM: gl.constexpr,
) -> None:
    q_tiles, k_tiles, v_tiles, q_full, q_empty, k_full, k_empty, v_full, v_empty, _v_here = ring
    dtype: gl.constexpr = out.dtype.element_ty
    score_layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, KEYS, 16])
    row_layout: gl.constexpr = gl.SliceLayout(1, score_layout)
    acc_layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, DIM, 16])
    acc_row_layout: gl.constexpr = gl.SliceLayout(1, acc_layout)
    weight_layout: gl.constexpr = gl.DotOperandLayout(0, acc_layout, 2)
    zeros = gl.full([HALF, KEYS], 0.0, gl.float32, score_layout)
    q_tile = q_tiles.index(half)
    k_stage = 0
    k_phase = 0
    v_stage = 0
    v_phase = 0
    for turn in range(num_turns(num_items)):
        kv_head, _sequence, start, offset, first_row, end_row, low, last, first = item_of(
            turn, plan, num_kv_heads, GROUP, WINDOW
        )
        first_row += half * HALF
        # Rows past the end stand for the last one, so that every row sees a key.
        row = gl.minimum(first_row + gl.arange(0, HALF, row_layout), end_row - 1)
        positions = offset + row // GROUP
        maximum = gl.full([HALF], -1e30, gl.float32, row_layout)  # finite: -inf - -inf is NaN
        total = gl.full([HALF], 0.0, gl.float32, row_layout)
        acc = gl.full([HALF, DIM], 0.0, gl.float32, acc_layout)
        newest = last // KEYS
        oldest = low // KEYS
        # Tiles [plain_start, plain_end) need no mask.
        plain_end = gl.maximum(gl.minimum((first + 1) // KEYS, newest), oldest)
        plain_start = 0
        if WINDOW > 0:
            plain_start = gl.minimum(gl.cdiv(gl.maximum(last - WINDOW + 1, 0), KEYS), plain_end)

        mbarrier.wait(q_full, turn % 2)
        if not BOXED:
            fence_async_shared()
        mbarrier.wait(k_full.index(k_stage), k_phase)
        scores = warpgroup_mma(q_tile, k_tiles.index(k_stage).permute((1, 0)), zeros, use_acc=False)
        mbarrier.arrive(k_empty.index(k_stage))
        k_stage += 1
        if k_stage == STAGES:
            k_stage = 0
            k_phase ^= 1
        weights, shrink, maximum, total = _softmax(
            scores, maximum, total, positions, newest, scale, softcap, WINDOW, SOFTCAP, True
        )
        # From here on a tile's scores and the sums over the tile before it are one batch of
        # multiplications.
        packed = _pack(weights, dtype)
        for segment in gl.static_range(3):
            if segment == 0:  # the rest of the diagonal
                above = newest
                below = plain_end
            elif segment == 1:
                above = plain_end
                below = plain_start
            else:  # where the window begins
                above = plain_start
                below = oldest
            if segment < 2 or WINDOW > 0:
                for tile in range(above - 1, below - 1, -1):
                    mbarrier.wait(k_full.index(k_stage), k_phase)
                    k_tile = k_tiles.index(k_stage).permute((1, 0))
                    scores = warpgroup_mma(q_tile, k_tile, zeros, use_acc=False, is_async=True)
                    mbarrier.wait(v_full.index(v_stage), v_phase)
                    operand = gl.convert_layout(_unpack(packed, dtype), weight_layout)
                    acc = warpgroup_mma(operand, v_tiles.index(v_stage), acc, is_async=True)
                    scores = warpgroup_mma_wait(1, deps=[scores])
                    mbarrier.arrive(k_empty.index(k_stage))
                    fresh, shrink, maximum, total = _softmax(
                        scores,
                        maximum,
                        total,
                        positions,
                        tile,
                        scale,
                        softcap,
                        WINDOW,
                        SOFTCAP,
                        segment != 1,
                    )
                    acc = warpgroup_mma_wait(0, deps=[acc])
                    mbarrier.arrive(v_empty.index(v_stage))
                    acc *= gl.convert_layout(shrink, acc_row_layout)[:, None]
                    packed = _pack(fresh, dtype)
                    k_stage += 1
                    if k_stage == STAGES:
                        k_stage = 0
                        k_phase ^= 1
                    v_stage += 1
                    if v_stage == STAGES:
                        v_stage = 0
                        v_phase ^= 1
        mbarrier.arrive(q_empty)
        mbarrier.wait(v_full.index(v_stage), v_phase)
        operand = gl.convert_layout(_unpack(packed, dtype), weight_layout)
        acc = warpgroup_mma(operand, v_tiles.index(v_stage), acc)
        mbarrier.arrive(v_empty.index(v_stage))
        v_stage += 1
        if v_stage == STAGES:
            v_stage = 0
            v_phase ^= 1
        acc *= (1.0 / gl.convert_layout(total, acc_row_layout))[:, None]
        row = first_row + gl.arange(0, HALF, acc_row_layout)
        dims = gl.arange(0, DIM, gl.SliceLayout(0, acc_layout))
        place = (start + row // GROUP).to(gl.int64) * out_token_stride
        place += (kv_head * GROUP + row % GROUP) * head_dim
        mask = (row < end_row)[:, None] & (dims < head_dim)[None, :]
        gl.store(out + (place[:, None] + dims[None, :]), acc.to(dtype), mask=mask)


@gluon.jit
def prefill_kernel(
    q: gl.tensor,  # [T, H, D], strided; a descriptor if BOXED
    k_by_page: gl.tensor,  # descriptors of [N, K, P, D]: boxes of a page's keys
    k_by_tile: gl.tensor,  # and of a tile's
    v_by_page: gl.tensor,
    v_by_tile: gl.tensor,
    out: gl.tensor,  # [T, H, D]
    plan: gl.tensor,  # [1 + B, COLUMNS]
    num_kv_heads: gl.tensor,
    rows: gl.tensor,
    page_table: gl.tensor,
    q_token_stride: gl.tensor,
    q_head_stride: gl.tensor,
    out_token_stride: gl.tensor,
    table_stride: gl.tensor,
    head_dim: gl.tensor,
    scale: gl.tensor,
    softcap: gl.tensor,
    GROUP: gl.constexpr,  # query heads per KV head
    WINDOW: gl.constexpr,  # 0 for none
    SOFTCAP: gl.constexpr,
    BOXED: gl.constexpr,  # whether the copy engine can copy the queries
    PAGE_SIZE: gl.constexpr,
    STAGES: gl.constexpr,
    KEYS: gl.constexpr,
    DIM: gl.constexpr,
) -> None:
    num_items = gl.load(plan) * num_kv_heads
    dtype: gl.constexpr = out.dtype.element_ty
    layout: gl.constexpr = gl.NVMMASharedLayout.get_default_for([KEYS, DIM], dtype)
    bar: gl.constexpr = mbarrier.MBarrierLayout()
    q_tiles = gl.allocate_shared_memory(dtype, [2, HALF, DIM], layout)
    k_tiles = gl.allocate_shared_memory(dtype, [STAGES, KEYS, DIM], layout)
    v_tiles = gl.allocate_shared_memory(dtype, [STAGES, KEYS, DIM], layout)
    q_full = gl.allocate_shared_memory(gl.int64, [1], bar)
    q_empty = gl.allocate_shared_memory(gl.int64, [1], bar)
    k_full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], bar)
    k_empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], bar)
    v_full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], bar)
    v_empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], bar)
    v_here = gl.allocate_shared_memory(gl.int64, [1], bar)
    mbarrier.init(v_here, count=1)
    mbarrier.init(q_full, count=1 if BOXED else COPY_THREADS)
    mbarrier.init(q_empty, count=2)  # both halves
    for stage in gl.static_range(STAGES):
        mbarrier.init(k_full.index(stage), count=1)
        mbarrier.init(v_full.index(stage), count=1)
        mbarrier.init(k_empty.index(stage), count=2)
        mbarrier.init(v_empty.index(stage), count=2)
    ring = (q_tiles, k_tiles, v_tiles, q_full, q_empty, k_full, k_empty, v_full, v_empty, v_here)
    gl.warp_specialize(
        [
            (
                _multiply,
                (
                    gl.to_tensor(0),
                    out,
                    plan,
                    num_items,
                    num_kv_heads,
                    out_token_stride,
                    head_dim,
                    scale,
                    softcap,
                    ring,
                    GROUP,
                    WINDOW,
                    SOFTCAP,
                    BOXED,
                    STAGES,
                    KEYS,
                    DIM,
                ),
            ),
            (
                _multiply,
                (
                    gl.to_tensor(1),
                    out,
                    plan,
                    num_items,
                    num_kv_heads,
                    out_token_stride,
                    head_dim,
                    scale,
                    softcap,
                    ring,
                    GROUP,
                    WINDOW,
                    SOFTCAP,
                    BOXED,
                    STAGES,
                    KEYS,
                    DIM,
                ),
            ),
            (
                copy_blocks,
                (
                    q,
                    (k_by_page, k_by_tile),
                    (v_by_page, v_by_tile),
                    plan,
                    num_items,
                    num_kv_heads,
                    rows,
                    page_table,
                    q_token_stride,
                    q_head_stride,
                    table_stride,
                    head_dim,
                    ring,
                    GROUP,
                    WINDOW,
                    BOXED,
                    PAGE_SIZE,
                    STAGES,
                    KEYS,
                    DIM,
                ),
            ),
        ],
        [4, 1],
        [MULTIPLY_REGISTERS, COPY_REGISTERS],
    )
