"""The end of decode attention in Gluon: what a sequence's parts left becomes its output."""

from triton.experimental import gluon
from triton.experimental.gluon import language as gl


@gluon.jit
def join_parts(
    partial: gl.tensor,  # [slots, H, DIM]
    weights_of: gl.tensor,  # [slots, H] log2
    out: gl.tensor,  # [GROUP, D], the token's
    first: gl.tensor,  # of the sequence's slots and heads, in [slots * H]
    num_parts: gl.tensor,
    num_heads: gl.tensor,
    head_dim: gl.tensor,
    GROUP: gl.constexpr,
    MEMBERS: gl.constexpr,  # GROUP rounded up to a power of two
    PARTS: gl.constexpr,  # joined at a time, so that their loads are in flight together
    DIM: gl.constexpr,
) -> None:
    """Put a sequence's parts, all of them stored, together into `out`."""
    # A thread has all parts of its values: nothing is exchanged.
    WIDTH: gl.constexpr = min(4, max(1, MEMBERS * DIM // 128))
    LANES: gl.constexpr = min(32, DIM // WIDTH)
    WARPS: gl.constexpr = max(1, min(4, MEMBERS * LANES // 32))
    layout: gl.constexpr = gl.BlockedLayout(
        [1, 1, WIDTH], [1, 32 // LANES, LANES], [1, WARPS, 4 // WARPS], [2, 1, 0]
    )
    pairs: gl.constexpr = gl.SliceLayout(2, layout)
    heads: gl.constexpr = gl.SliceLayout(0, pairs)
    inner: gl.constexpr = gl.SliceLayout(0, gl.SliceLayout(1, layout))
    part_index = gl.arange(0, PARTS, gl.SliceLayout(1, pairs))[:, None]
    member = gl.arange(0, MEMBERS, heads)
    dim = gl.arange(0, DIM, inner)
    maximum = gl.full([MEMBERS], float("-inf"), gl.float32, heads)
    total = gl.full([MEMBERS], 0.0, gl.float32, heads)
    acc = gl.full([MEMBERS, DIM], 0.0, gl.float32, gl.SliceLayout(0, layout))
    for start in range(0, num_parts, PARTS):
        part = start + part_index
        mask = (part < num_parts) & (member < GROUP)[None, :]
        place = first + part * num_heads + member[None, :]
        found = gl.load(weights_of + place, mask=mask, other=float("-inf"))
        values = gl.load(
            partial + (place[:, :, None] * DIM + dim[None, None, :]),
            mask=mask[:, :, None],
            other=0.0,
        )
        new_maximum = gl.maximum(maximum, gl.max(found, axis=0))
        base = gl.where(member < GROUP, new_maximum, 0.0)
        weights = gl.exp2(found - base[None, :])
        shrink = gl.exp2(maximum - base)
        total = total * shrink + gl.sum(weights, axis=0)
        shrink = gl.convert_layout(shrink, gl.SliceLayout(1, gl.SliceLayout(0, layout)))
        acc = acc * shrink[:, None] + gl.sum(values * weights[:, :, None], axis=0)
        maximum = new_maximum
    total = gl.convert_layout(total, gl.SliceLayout(1, gl.SliceLayout(0, layout)))
    rows = gl.arange(0, MEMBERS, gl.SliceLayout(1, gl.SliceLayout(0, layout)))
    columns = gl.arange(0, DIM, gl.SliceLayout(0, gl.SliceLayout(0, layout)))
    result = acc / gl.where(rows < GROUP, total, 1.0)[:, None]
    mask = (rows < GROUP)[:, None] & (columns < head_dim)[None, :]
    place = rows[:, None] * head_dim + columns[None, :]
    gl.store(out + place, result.to(out.dtype.element_ty), mask=mask)
