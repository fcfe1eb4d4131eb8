"""act(x Wg^T) * (x Wu^T) for the tokens of prompts on Hopper (capability 9.0), in Gluon.

A program stays and takes tiles of 128 tokens by 128 columns that come out, so of 256 rows of the
weight, one after the other. Its warps are specialised: one has the copy engine (TMA) fetch both
operands, across tiles; twice four multiply 64 tokens each (wgmma), and the fetches of the next
tile go on while they finish one. Gate and up of the same columns are 8 rows of each in turn: that
is how the tensor cores hand both to one thread. Tiles are taken in bands of SPAN blocks of tokens,
as many as the L2 cache holds beside the weight's.

Operations: 4 * T * depth * width. Bytes: the operands once a band, and what comes out; that gate
and up never go to memory is the gain. H200, 8192 tokens by [28672, 4096], bf16, back to back for
0.8 s, at the power limit: 2845 us, 676 TFLOP/s, where cuBLAS and the activation take 2909.
"""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)

from quire.kernels.activation.triton_activation import activate

try:  # Triton 3.9
    from triton.experimental.gluon.language import barrier
    from triton.experimental.gluon.language.nvidia.hopper.tma import async_load, async_store
except ImportError:  # Triton 3.6
    from triton.experimental.gluon.language import thread_barrier as barrier
    from triton.experimental.gluon.language.nvidia.hopper.tma import (
        async_copy_global_to_shared as async_load,
    )
    from triton.experimental.gluon.language.nvidia.hopper.tma import (
        async_copy_shared_to_global as async_store,
    )

TOKENS = gl.constexpr(64)  # of each half
COLUMNS = gl.constexpr(128)
DEPTH = gl.constexpr(64)  # 128 bytes, the widest that the copy engine swizzles
STAGES = gl.constexpr(4)
SPAN = gl.constexpr(16)
MULTIPLY_REGISTERS = gl.constexpr(232)  # of each thread
COPY_REGISTERS = gl.constexpr(24)


@gluon.jit
def _place(tile: gl.tensor, sizes: gl.tuple) -> tuple:
    """-> (block of tokens, block of columns)."""
    blocks, columns = sizes
    band = SPAN * columns
    first = tile // band * SPAN
    span = gl.minimum(blocks - first, SPAN)
    inside = tile % band
    return first + inside % span, inside // span


@gluon.jit
def _copy(
    x: gl.tensor, weight: gl.tensor, steps: gl.tensor, sizes: gl.tuple, ring: gl.tuple
) -> None:
    w_tiles, x_tiles, full, empty = ring
    blocks, columns = sizes
    BYTES: gl.constexpr = (2 * COLUMNS + 2 * TOKENS) * DEPTH * 2
    stage = 0
    phase = 1
    for tile in range(gl.program_id(0), blocks * columns, gl.num_programs(0)):
        block, column = _place(tile, sizes)
        for step in range(steps):
            mbarrier.wait(empty.index(stage), phase)
            here = full.index(stage)
            mbarrier.expect(here, BYTES)
            place = [column * (COLUMNS // 8), 0, 0, step * DEPTH]
            async_load(weight, place, here, w_tiles.index(stage))
            for half in gl.static_range(2):
                place = [(block * 2 + half) * TOKENS, step * DEPTH]
                async_load(x, place, here, x_tiles.index(stage * 2 + half))
            stage += 1
            if stage == STAGES:
                stage = 0
                phase ^= 1


@gluon.jit
def _multiply(
    half: gl.constexpr,  # of the tile's tokens
    out: gl.tensor,
    steps: gl.tensor,
    sizes: gl.tuple,
    ring: gl.tuple,
    staging: gl.tensor,
    ACTIVATION: gl.constexpr,
) -> None:
    w_tiles, x_tiles, full, empty = ring
    blocks, columns = sizes
    layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, 2 * COLUMNS, 16])
    y_layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, COLUMNS, 16])
    stage = 0
    phase = 0
    for tile in range(gl.program_id(0), blocks * columns, gl.num_programs(0)):
        block, column = _place(tile, sizes)
        acc = gl.full([TOKENS, 2 * COLUMNS], 0.0, gl.float32, layout)
        for step in range(steps):
            mbarrier.wait(full.index(stage), phase)
            w_tile = w_tiles.index(stage).reshape([2 * COLUMNS, DEPTH]).permute((1, 0))
            acc = warpgroup_mma(x_tiles.index(stage * 2 + half), w_tile, acc, is_async=True)
            acc = warpgroup_mma_wait(1, deps=[acc])
            mbarrier.arrive(empty.index((stage + STAGES - 1) % STAGES), pred=step > 0)
            stage += 1
            if stage == STAGES:
                stage = 0
                phase ^= 1
        acc = warpgroup_mma_wait(0, deps=[acc])
        mbarrier.arrive(empty.index((stage + STAGES - 1) % STAGES))
        # Rounded as separate kernels would round.
        pairs = acc.to(out.dtype).reshape([TOKENS, COLUMNS // 8, 2, 8]).permute((0, 1, 3, 2))
        gate, up = pairs.split()
        y = activate(gate.to(gl.float32), ACTIVATION) * up.to(gl.float32)
        y = gl.convert_layout(
            y.to(out.dtype).reshape([TOKENS, COLUMNS]), y_layout, assert_trivial=True
        )
        tma.store_wait(0)
        barrier()
        staging.index(half).store(y)
        fence_async_shared()
        barrier()
        async_store(out, [(block * 2 + half) * TOKENS, column * COLUMNS], staging.index(half))
    tma.store_wait(0)


@gluon.jit(do_not_specialize=["steps", "blocks", "columns"])
def gated_kernel(
    x: gl.tensor,  # [T, depth] 16-bit, a descriptor as are the next two
    weight: gl.tensor,  # [out / 16, 2, 8, depth]
    out: gl.tensor,  # [T, out / 2]
    steps: gl.tensor,  # of DEPTH
    blocks: gl.tensor,  # of tokens
    columns: gl.tensor,  # blocks of them
    ACTIVATION: gl.constexpr,
) -> None:
    bar: gl.constexpr = mbarrier.MBarrierLayout()
    w_shape: gl.constexpr = [STAGES, COLUMNS // 8, 2, 8, DEPTH]
    w_tiles = gl.allocate_shared_memory(x.dtype, w_shape, weight.layout)
    x_tiles = gl.allocate_shared_memory(x.dtype, [STAGES * 2, TOKENS, DEPTH], x.layout)
    staging = gl.allocate_shared_memory(out.dtype, [2, TOKENS, COLUMNS], out.layout)
    full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], bar)
    empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], bar)
    for stage in gl.static_range(STAGES):
        mbarrier.init(full.index(stage), count=1)
        mbarrier.init(empty.index(stage), count=2)  # both halves
    fence_async_shared()
    ring = (w_tiles, x_tiles, full, empty)
    sizes = (blocks, columns)
    gl.warp_specialize(
        [
            (_multiply, (0, out, steps, sizes, ring, staging, ACTIVATION)),
            (_multiply, (1, out, steps, sizes, ring, staging, ACTIVATION)),
            (_copy, (x, weight, steps, sizes, ring)),
        ],
        [4, 1],
        [MULTIPLY_REGISTERS, COPY_REGISTERS],
    )
