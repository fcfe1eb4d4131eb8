"""x [T, in] times a weight [out, in] for 17 to 128 tokens on Hopper (capability 9.0), in Gluon.

The weight's rows are the tensor cores' long side and the tokens their short one. A program takes
a tile of 2 * ROWS rows of the weight by all tokens, or one of SPLIT equal parts of its depth, so
that there is about one for each multiprocessor. Its warps are specialised: one has the copy
engine (TMA) fetch weight and input several steps ahead, twice four multiply ROWS rows each
(wgmma). The weight is asked for before the kernel ahead is complete, and the registers allow to
run beside that one.

The programs of a tile leave each other fp32 sums in `partial`, count themselves in `arrivals` and
then add up CHUNK tokens in SPLIT * CHUNK each, in a fixed order. Nothing resets a count: it grows
by SPLIT a launch. Since they wait for each other, no more may be launched than run at once.

With an activation a tile holds gate and up of the same columns, 8 rows of each in turn: that is
how the tensor cores hand both to one thread.

Bytes: the weight, once, and the input once for every tile. Measured on an H200 (4.29 TB/s) in a
CUDA graph, cold L2, launch included: bf16 [28672, 4096] with its activation, 128 tokens, 67.0 us
= 82% (cuBLAS 70.8 and 4.1 for the activation). What it gains in a step: `tuning.shared_tile`.
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
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

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

COPY_REGISTERS = gl.constexpr(24)  # of each thread


@gluon.jit
def _copy(
    x: gl.tensor,
    weight: gl.tensor,
    work: gl.tuple,
    ring: gl.tuple,
    ROWS: gl.constexpr,
    TOKENS: gl.constexpr,
    DEPTH: gl.constexpr,
    STAGES: gl.constexpr,
    GATED: gl.constexpr,
) -> None:
    tile, first, stop = work
    w_tiles, x_tiles, full, empty = ring
    BYTES: gl.constexpr = (2 * ROWS + TOKENS) * DEPTH * x.dtype.primitive_bitwidth // 8
    ahead = gl.minimum(first + STAGES, stop)
    for step in range(first, ahead):  # all free; the weight is no kernel's output
        mbarrier.expect(full.index(step - first), BYTES)
        _copy_weight(weight, tile, step * DEPTH, step - first, w_tiles, full, ROWS, GATED)
    gdc_launch_dependents()
    gdc_wait()  # until the kernels before are complete
    for step in range(first, ahead):
        stage = step - first
        async_load(x, [0, step * DEPTH], full.index(stage), x_tiles.index(stage))
    stage = 0
    phase = 0
    for step in range(ahead, stop):
        mbarrier.wait(empty.index(stage), phase)
        mbarrier.expect(full.index(stage), BYTES)
        _copy_weight(weight, tile, step * DEPTH, stage, w_tiles, full, ROWS, GATED)
        async_load(x, [0, step * DEPTH], full.index(stage), x_tiles.index(stage))
        stage += 1
        if stage == STAGES:
            stage = 0
            phase ^= 1


@gluon.jit
def _copy_weight(
    weight: gl.tensor,
    tile: gl.tensor,
    inner: gl.tensor,
    stage: gl.tensor,
    w_tiles: gl.tensor,
    full: gl.tensor,
    ROWS: gl.constexpr,
    GATED: gl.constexpr,
) -> None:
    for half in gl.static_range(2):
        row = (tile * 2 + half) * ROWS
        place = [row // 16, 0, 0, inner] if GATED else [row, inner]
        async_load(weight, place, full.index(stage), w_tiles.index(stage * 2 + half))


@gluon.jit
def _multiply(
    half: gl.constexpr,  # of the tile
    operands: gl.tuple,
    partial: gl.tensor,
    arrivals: gl.tensor,
    sizes: gl.tuple,
    work: gl.tuple,
    ring: gl.tuple,
    staging: gl.tensor,
    ROWS: gl.constexpr,
    TOKENS: gl.constexpr,
    DEPTH: gl.constexpr,
    STAGES: gl.constexpr,
    SPLIT: gl.constexpr,
    CHUNK: gl.constexpr,
    SCALED: gl.constexpr,
    BIASED: gl.constexpr,
    ACTIVATION: gl.constexpr,
) -> None:
    tile, first, stop = work
    w_tiles, x_tiles, full, empty = ring
    CHUNKS: gl.constexpr = TOKENS // CHUNK
    BUFFERS: gl.constexpr = staging.shape[0] // 2
    INNER: gl.constexpr = 256 // x_tiles.dtype.primitive_bitwidth
    layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, TOKENS, INNER])
    acc = gl.full([ROWS, TOKENS], 0.0, gl.float32, layout)
    gdc_wait()  # what these warps read themselves is complete, too
    stage = 0
    phase = 0
    before = 0
    for step in range(first, stop):
        mbarrier.wait(full.index(stage), phase)
        w_tile = w_tiles.index(stage * 2 + half).reshape([ROWS, DEPTH])
        x_tile = x_tiles.index(stage).permute((1, 0))
        acc = warpgroup_mma(w_tile, x_tile, acc, is_async=True)
        acc = warpgroup_mma_wait(1, deps=[acc])
        mbarrier.arrive(empty.index(before), pred=step > first)
        before = stage
        stage += 1
        if stage == STAGES:
            stage = 0
            phase ^= 1
    acc = warpgroup_mma_wait(0, deps=[acc])

    chunk_layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, CHUNK, INNER])
    chunks = _chunks(acc, CHUNK, chunk_layout)
    program = gl.program_id(0)
    mine = program % SPLIT
    if SPLIT > 1:
        counter = arrivals + tile * 2 + half
        launch = _acquire(counter) & SPLIT
        for c in gl.static_range(CHUNKS):
            if c % SPLIT != mine:
                pieces = _by_thread(chunks[c])
                gl.store(_slot(partial, program * 2 + half, c, CHUNKS, pieces), pieces)
        barrier()
        gl.atomic_add(counter, 1, sem="release")
        if mine < CHUNKS:
            while _acquire(counter) & SPLIT == launch:
                pass
    for c in gl.static_range(CHUNKS):
        if c % SPLIT == mine:
            total = chunks[c]
            for turn in gl.static_range(1, SPLIT):
                other = tile * SPLIT + (mine + turn) % SPLIT
                slot = _slot(partial, other * 2 + half, c, CHUNKS, _by_thread(total))
                total += _from_thread(gl.load(slot, cache_modifier=".cg"), total)
            _finish(
                total,
                tile * 2 + half,
                c * CHUNK,
                operands,
                sizes,
                staging.index(half * BUFFERS + c // SPLIT % BUFFERS),
                BUFFERS,
                SCALED,
                BIASED,
                ACTIVATION,
            )
    tma.store_wait(0)


@gluon.jit
def _chunks(x: gl.tensor, CHUNK: gl.constexpr, LAYOUT: gl.constexpr) -> tuple:
    """x [ROWS, TOKENS] -> its parts [ROWS, CHUNK], in order."""
    if x.shape[1] == CHUNK:
        return (gl.convert_layout(x, LAYOUT, assert_trivial=True),)
    else:  # noqa: RET505 (a compile-time branch)
        low, high = x.reshape([x.shape[0], 2, x.shape[1] // 2]).permute((0, 2, 1)).split()
        return _chunks(low, CHUNK, LAYOUT) + _chunks(high, CHUNK, LAYOUT)


@gluon.jit
def _by_thread(chunk: gl.tensor) -> gl.tensor:
    """[ROWS, CHUNK] -> [CHUNK / 8, ROWS * 2, 4]: four of a thread's numbers in a row."""
    ROWS: gl.constexpr = chunk.shape[0]
    CHUNK: gl.constexpr = chunk.shape[1]
    pieces = chunk.reshape([ROWS // 16, 2, 8, CHUNK // 8, 4, 2]).permute((3, 0, 2, 4, 1, 5))
    return pieces.reshape([CHUNK // 8, ROWS * 2, 4])


@gluon.jit
def _from_thread(pieces: gl.tensor, like: gl.tensor) -> gl.tensor:
    """The inverse of `_by_thread`, in the layout of `like`."""
    ROWS: gl.constexpr = like.shape[0]
    CHUNK: gl.constexpr = like.shape[1]
    layout: gl.constexpr = like.type.layout
    chunk = pieces.reshape([CHUNK // 8, ROWS // 16, 8, 4, 2, 2]).permute((1, 4, 2, 0, 3, 5))
    return gl.convert_layout(chunk.reshape([ROWS, CHUNK]), layout, assert_trivial=True)


@gluon.jit
def _slot(
    partial: gl.tensor,
    place: gl.tensor,  # the program's half
    chunk: gl.constexpr,
    CHUNKS: gl.constexpr,
    like: gl.tensor,  # a chunk by thread
) -> gl.tensor:
    """Where the sums of a chunk are left."""
    layout: gl.constexpr = like.type.layout
    A: gl.constexpr = like.shape[0]
    B: gl.constexpr = like.shape[1]
    a = gl.arange(0, A, gl.SliceLayout(1, gl.SliceLayout(2, layout)))
    b = gl.arange(0, B, gl.SliceLayout(0, gl.SliceLayout(2, layout)))
    c = gl.arange(0, 4, gl.SliceLayout(0, gl.SliceLayout(1, layout)))
    inside = (a[:, None] * B + b[None, :])[:, :, None] * 4 + c[None, None, :]
    return partial + ((place * CHUNKS + chunk) * (A * B * 4) + inside)


@gluon.jit
def _acquire(counter: gl.tensor) -> gl.tensor:
    """Its value: what was written before it was counted up to this can be read from here on."""
    return gl.inline_asm_elementwise(
        "ld.acquire.gpu.global.b32 $0, [$1];", "=r,l", [counter], gl.int32, is_pure=False, pack=1
    )


@gluon.jit
def _finish(
    total: gl.tensor,  # [ROWS, CHUNK] fp32
    place: gl.tensor,  # which ROWS of the weight
    token: gl.constexpr,
    operands: gl.tuple,
    sizes: gl.tuple,
    staging: gl.tensor,
    BUFFERS: gl.constexpr,
    SCALED: gl.constexpr,
    BIASED: gl.constexpr,
    ACTIVATION: gl.constexpr,
) -> None:
    """Scale, bias and activation, rounded between as separate kernels would round; store."""
    x_scale, scale, bias, out = operands
    num_tokens, width = sizes
    ROWS: gl.constexpr = total.shape[0]
    CHUNK: gl.constexpr = total.shape[1]
    layout: gl.constexpr = total.type.layout
    index = gl.arange(0, ROWS, gl.SliceLayout(1, layout))
    if ACTIVATION == "":
        column = place * ROWS
        row = column + index
        used = row < width
    else:
        column = place * (ROWS // 2)
        row = column + index // 16 * 8 + index % 8
        used = row < width
        row += index // 8 % 2 * width
    if SCALED:
        tokens = token + gl.arange(0, CHUNK, gl.SliceLayout(0, layout))
        total *= gl.load(x_scale + tokens, mask=tokens < num_tokens, other=0.0)[None, :]
        total *= gl.load(scale + row, mask=used, other=0.0)[:, None]
    if BIASED:
        total += gl.load(bias + row, mask=used, other=0.0).to(gl.float32)[:, None]
    y = total.to(out.dtype)
    if ACTIVATION != "":
        gate, up = y.reshape([ROWS // 16, 2, 8, CHUNK]).permute((0, 2, 3, 1)).split()
        y = activate(gate.to(gl.float32), ACTIVATION) * up.to(gl.float32)
        y = y.to(out.dtype).reshape([ROWS // 2, CHUNK])
    tma.store_wait(BUFFERS - 1)  # the other buffer may still be on its way
    barrier()
    staging.permute((1, 0)).store(y)
    fence_async_shared()
    async_store(out, [token, column], staging)


@gluon.jit(do_not_specialize=["num_tokens", "width", "steps"])
def many_rows_kernel(
    x: gl.tensor,  # [T, depth], 16-bit or e4m3
    x_scale: gl.tensor,  # [T] fp32, read if SCALED
    weight: gl.tensor,  # [out, depth], or [out / 16, 2, 8, depth] with an activation
    scale: gl.tensor,  # [out] fp32, read if SCALED
    bias: gl.tensor,  # [out], read if BIASED
    out: gl.tensor,  # [T, width]
    partial: gl.tensor,  # fp32
    arrivals: gl.tensor,  # int32, multiples of SPLIT
    num_tokens: gl.tensor,
    width: gl.tensor,
    steps: gl.tensor,  # of DEPTH
    ROWS: gl.constexpr,
    TOKENS: gl.constexpr,
    DEPTH: gl.constexpr,
    STAGES: gl.constexpr,
    SPLIT: gl.constexpr,  # a power of two
    CHUNK: gl.constexpr,  # tokens that are finished at a time, a power of two
    SCALED: gl.constexpr,
    BIASED: gl.constexpr,
    ACTIVATION: gl.constexpr,  # "" for none
    REGISTERS: gl.constexpr,  # of each thread that multiplies
) -> None:
    bar: gl.constexpr = mbarrier.MBarrierLayout()
    BUFFERS: gl.constexpr = 1 if TOKENS <= 32 else 2  # of what is on its way out
    COLUMNS: gl.constexpr = ROWS if ACTIVATION == "" else ROWS // 2
    w_shape: gl.constexpr = [2 * STAGES] + weight.block_shape  # noqa: RUF005 (not in Gluon)
    w_tiles = gl.allocate_shared_memory(x.dtype, w_shape, weight.layout)
    x_tiles = gl.allocate_shared_memory(x.dtype, [STAGES, TOKENS, DEPTH], x.layout)
    staging = gl.allocate_shared_memory(out.dtype, [2 * BUFFERS, CHUNK, COLUMNS], out.layout)
    full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], bar)
    empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], bar)
    for stage in gl.static_range(STAGES):
        mbarrier.init(full.index(stage), count=1)
        mbarrier.init(empty.index(stage), count=2)  # both halves
    fence_async_shared()
    ring = (w_tiles, x_tiles, full, empty)
    operands = (x_scale, scale, bias, out)
    sizes = (num_tokens, width)
    tile = gl.program_id(0) // SPLIT
    part = gl.program_id(0) % SPLIT
    work = (tile, steps * part // SPLIT, steps * (part + 1) // SPLIT)
    gl.warp_specialize(
        [
            (
                _multiply,
                (
                    0,
                    operands,
                    partial,
                    arrivals,
                    sizes,
                    work,
                    ring,
                    staging,
                    ROWS,
                    TOKENS,
                    DEPTH,
                    STAGES,
                    SPLIT,
                    CHUNK,
                    SCALED,
                    BIASED,
                    ACTIVATION,
                ),
            ),
            (
                _multiply,
                (
                    1,
                    operands,
                    partial,
                    arrivals,
                    sizes,
                    work,
                    ring,
                    staging,
                    ROWS,
                    TOKENS,
                    DEPTH,
                    STAGES,
                    SPLIT,
                    CHUNK,
                    SCALED,
                    BIASED,
                    ACTIVATION,
                ),
            ),
            (
                _copy,
                (
                    x,
                    weight,
                    work,
                    ring,
                    ROWS,
                    TOKENS,
                    DEPTH,
                    STAGES,
                    ACTIVATION != "",
                ),
            ),
        ],
        [4, 1],
        [REGISTERS, COPY_REGISTERS],
    )
