"""What prefill attention's copying warp does (`gluon_prefill`): which blocks a program takes, and
bringing their queries, keys and values to shared memory."""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    async_copy,
    fence_async_shared,
    mbarrier,
)

from quire.kernels.attention import blocks

try:  # Triton 3.9
    from triton.experimental.gluon.language.nvidia.ampere.async_copy import async_load
    from triton.experimental.gluon.language.nvidia.hopper.tma import async_load as load_box

    RENAMED = gl.constexpr(True)
except ImportError:  # Triton 3.6
    from triton.experimental.gluon.language.nvidia.ampere.async_copy import (
        async_copy_global_to_shared as async_load,
    )
    from triton.experimental.gluon.language.nvidia.hopper.tma import (
        async_copy_global_to_shared as load_box,
    )

    RENAMED = gl.constexpr(False)

ROWS = gl.constexpr(blocks.ROWS)
HALF = gl.constexpr(blocks.ROWS // 2)  # rows of one warpgroup
COLUMNS = gl.constexpr(blocks.COLUMNS)
COPY_THREADS = gl.constexpr(32)
BOX_DIMS = gl.constexpr(64)  # of 16 bits: the widest that the copy engine swizzles
GROUP_KEYS = gl.constexpr(16)  # whose values are looked at at a time where some are not seen


@gluon.jit
def num_turns(num_items: gl.tensor) -> gl.tensor:
    """How many of the items this program takes."""
    programs = gl.num_programs(0)
    turns = num_items // programs
    last = turns * programs + _place(turns)
    return turns + (last < num_items).to(gl.int32)


@gluon.jit
def _place(turn: gl.tensor) -> gl.tensor:
    """Which of a turn's items this program takes: there and back, since items get shorter."""
    program = gl.program_id(0)
    return gl.where(turn % 2 == 0, program, gl.num_programs(0) - 1 - program)


@gluon.jit
def item_of(
    turn: gl.tensor,
    plan: gl.tensor,
    num_kv_heads: gl.tensor,
    GROUP: gl.constexpr,
    WINDOW: gl.constexpr,
) -> tuple:
    """-> (KV head, sequence, its first token, that token's position, first row, rows' end,
    first key seen, last key seen, last key that every row may see)."""
    item = turn * gl.num_programs(0) + _place(turn)
    block = plan + (1 + item // num_kv_heads) * COLUMNS
    sequence = gl.load(block)
    start = gl.load(block + 1)
    offset = gl.load(block + 2)
    first_row = gl.load(block + 3)
    end_row = gl.load(block + 4)
    first = offset + first_row // GROUP
    last = offset + (gl.minimum(first_row + ROWS, end_row) - 1) // GROUP
    low = 0
    if WINDOW > 0:
        low = gl.maximum(first - WINDOW + 1, 0)
    return item % num_kv_heads, sequence, start, offset, first_row, end_row, low, last, first


@gluon.jit
def _boxes_of(tile: gl.tensor, shape: gl.constexpr, layout: gl.constexpr) -> gl.tensor:
    """A tile [rows, DIM] as boxes one after the other, since swizzled it lies in shared memory in
    columns of BOX_DIMS: first the boxes of the first column."""
    if RENAMED:
        boxes = tile.reinterpret(tile.dtype, shape, layout)
    else:
        boxes = tile._reinterpret(tile.dtype, shape, layout)
    return boxes


@gluon.jit
def _pages_of(
    page_ids: gl.tensor,
    first_key: gl.tensor,  # of a tile
    low: gl.tensor,
    last: gl.tensor,
    KEYS: gl.constexpr,
    BOX: gl.constexpr,
    PAGE_SIZE: gl.constexpr,
) -> gl.tuple:
    """The page of each box. In place of one without a visible key comes one that has some."""
    pages = ()
    for box in gl.static_range(KEYS // BOX):
        key = gl.minimum(gl.maximum(first_key + box * BOX, low), last).to(gl.uint32)
        pages += (gl.load(page_ids + key // PAGE_SIZE),)  # type: ignore[assignment]
    return pages


@gluon.jit
def _copy_keys(
    source: gl.tuple,  # descriptors of [N, K, P, D]: boxes of a page's keys, of a tile's
    pages: gl.tuple,
    kv_head: gl.tensor,
    first_key: gl.tensor,
    tile: gl.tensor,  # [KEYS, DIM]
    full: gl.tensor,
    PAGE_SIZE: gl.constexpr,
) -> None:
    """In one box for every column where the pages follow each other, as they often do: a small box
    takes the copy engine longer than its bytes."""
    by_page, by_tile = source
    BOX: gl.constexpr = by_page.block_shape[2]
    BOXES: gl.constexpr = tile.shape[0] // BOX
    COLUMNS: gl.constexpr = tile.shape[1] // BOX_DIMS
    mbarrier.expect(full, tile.shape[0] * tile.shape[1] * 2)
    gaps = BOX - PAGE_SIZE + gl.to_tensor(0)
    for box in gl.static_range(1, BOXES):
        gaps |= pages[box] - pages[0] - box
    if gaps == 0:
        by_tile_layout: gl.constexpr = by_tile.layout
        tile_shape: gl.constexpr = [COLUMNS, BOXES, 1, BOX, BOX_DIMS]
        columns = _boxes_of(tile, tile_shape, by_tile_layout)
        for column in gl.static_range(COLUMNS):
            load_box(
                by_tile, [pages[0], kv_head, 0, column * BOX_DIMS], full, columns.index(column)
            )
    else:
        layout: gl.constexpr = by_page.layout
        shape: gl.constexpr = [COLUMNS * BOXES, 1, 1, BOX, BOX_DIMS]
        boxes = _boxes_of(tile, shape, layout)
        for box in gl.static_range(BOXES):
            slot = ((first_key + box * BOX).to(gl.uint32) % PAGE_SIZE).to(gl.int32)
            for column in gl.static_range(COLUMNS):
                place = [pages[box], kv_head, slot, column * BOX_DIMS]
                load_box(by_page, place, full, boxes.index(column * BOXES + box))


@gluon.jit
def _clear_unseen(
    tile: gl.tensor,  # values [KEYS, DIM]
    first_key: gl.tensor,
    low: gl.tensor,
    last: gl.tensor,
) -> None:
    """Zero for keys that no row sees: their weight is zero, but they may be NaN."""
    GROUPS: gl.constexpr = tile.shape[0] // GROUP_KEYS
    COLUMNS: gl.constexpr = tile.shape[1] // BOX_DIMS
    shape: gl.constexpr = [COLUMNS * GROUPS, GROUP_KEYS, BOX_DIMS]
    flat: gl.constexpr = gl.NVMMASharedLayout.get_default_for([GROUP_KEYS, BOX_DIMS], tile.dtype)
    parts = _boxes_of(tile, shape, flat)
    layout: gl.constexpr = gl.BlockedLayout([1, 8], [4, 8], [1, 1], [1, 0])
    lane = gl.arange(0, GROUP_KEYS, gl.SliceLayout(1, layout))
    for group in range(GROUPS):
        keys = first_key + group * GROUP_KEYS + lane
        start = first_key + group * GROUP_KEYS
        if (start < low) | (start + GROUP_KEYS > last + 1):
            seen = (keys >= low) & (keys <= last)
            for column in gl.static_range(COLUMNS):
                part = parts.index(column * GROUPS + group)
                part.store(gl.where(seen[:, None], part.load(layout), 0.0))
    fence_async_shared()


@gluon.jit
def copy_blocks(
    q: gl.tensor,  # a descriptor of [T, H, D] if BOXED
    k_pages: gl.tuple,
    v_pages: gl.tuple,
    plan: gl.tensor,
    num_items: gl.tensor,
    num_kv_heads: gl.tensor,
    rows: gl.tensor,
    page_table: gl.tensor,
    q_token_stride: gl.tensor,
    q_head_stride: gl.tensor,
    table_stride: gl.tensor,
    head_dim: gl.tensor,
    ring: gl.tuple,
    GROUP: gl.constexpr,
    WINDOW: gl.constexpr,
    BOXED: gl.constexpr,
    PAGE_SIZE: gl.constexpr,
    STAGES: gl.constexpr,
    KEYS: gl.constexpr,
    DIM: gl.constexpr,
) -> None:
    q_tiles, k_tiles, v_tiles, q_full, q_empty, k_full, k_empty, v_full, v_empty, v_here = ring
    k_by_page, _k_by_tile = k_pages
    BOX: gl.constexpr = k_by_page.block_shape[2]
    stage = 0
    phase = 1
    here_phase = 0
    for turn in range(num_turns(num_items)):
        kv_head, sequence, start, _offset, first_row, end_row, low, last, _first = item_of(
            turn, plan, num_kv_heads, GROUP, WINDOW
        )
        page_ids = page_table + gl.load(rows + sequence).to(gl.int64) * table_stride
        mbarrier.wait(q_empty, (turn + 1) % 2)
        if BOXED:
            shape: gl.constexpr = [DIM // BOX_DIMS, HALF // GROUP, GROUP, BOX_DIMS]
            q_layout: gl.constexpr = q.layout
            mbarrier.expect(q_full, 2 * HALF * DIM * 2)
            for half in gl.static_range(2):
                token = start + (first_row + half * HALF) // GROUP
                boxes = _boxes_of(q_tiles.index(half), shape, q_layout)
                for column in gl.static_range(DIM // BOX_DIMS):
                    place = [token, kv_head * GROUP, column * BOX_DIMS]
                    load_box(q, place, q_full, boxes.index(column))
        else:
            layout: gl.constexpr = gl.BlockedLayout([1, 8], [256 // DIM, DIM // 8], [1, 1], [1, 0])
            member = gl.arange(0, HALF, gl.SliceLayout(1, layout))
            dims = gl.arange(0, DIM, gl.SliceLayout(0, layout))
            mask = (member >= 0)[:, None] & (dims < head_dim)[None, :]
            for half in gl.static_range(2):
                row = gl.minimum(first_row + half * HALF + member, end_row - 1)
                token = (start + row // GROUP).to(gl.int64)
                source = token * q_token_stride + (kv_head * GROUP + row % GROUP) * q_head_stride
                async_load(q_tiles.index(half), q + (source[:, None] + dims[None, :]), mask)
            async_copy.mbarrier_arrive(q_full, increment_count=False)
        unclear = -1  # the stage of values that are still to be cleared
        for tile in range(last // KEYS, low // KEYS - 1, -1):
            first_key = tile * KEYS
            pages = _pages_of(page_ids, first_key, low, last, KEYS, BOX, PAGE_SIZE)
            keys_full = k_full.index(stage)
            mbarrier.wait(k_empty.index(stage), phase)
            _copy_keys(
                k_pages, pages, kv_head, first_key, k_tiles.index(stage), keys_full, PAGE_SIZE
            )
            if unclear >= 0:  # in the meantime
                mbarrier.wait(v_here, here_phase)
                here_phase ^= 1
                _clear_unseen(v_tiles.index(unclear), first_key + KEYS, low, last)
                mbarrier.arrive(v_full.index(unclear))
                unclear = -1
            mbarrier.wait(v_empty.index(stage), phase)
            values = v_tiles.index(stage)
            if (first_key >= low) & (first_key + KEYS <= last + 1):
                _copy_keys(
                    v_pages, pages, kv_head, first_key, values, v_full.index(stage), PAGE_SIZE
                )
            else:
                _copy_keys(v_pages, pages, kv_head, first_key, values, v_here, PAGE_SIZE)
                unclear = stage
            stage += 1
            if stage == STAGES:
                stage = 0
                phase ^= 1
        if unclear >= 0:
            mbarrier.wait(v_here, here_phase)
            here_phase ^= 1
            _clear_unseen(v_tiles.index(unclear), low // KEYS * KEYS, low, last)
            mbarrier.arrive(v_full.index(unclear))
