"""Rows with many candidates: races over their listed groups, a program a part.

`draw_kernel` runs the race and `check_kernel` takes the mass above the winner, which says whether
top_p keeps it. If not, the floor rises above it and both run again: 1 - top_p of the rows need a
second race, few a third. The program that is last through with a row joins the parts, in their
order. Programs take rows from a queue, so that launches that nobody needs are short.
"""

import triton
import triton.language as tl

from quire.kernels.sample.triton_narrow import (
    ARRIVED,
    DRAWN,
    FLAGS,
    FLOOR,
    GOAL,
    LISTED,
    STATES,
    TOP,
    enqueue,
)
from quire.kernels.sample.triton_race import (
    LOG2_E,
    NO_TOKEN,
    ROW_NUMBERS,
    SERIES_BELOW,
    keeps,
    listed_groups,
    mass,
    next_above,
    race,
    settle,
)
from quire.kernels.triton_chain import let_next_start, wait_for_input


@triton.jit
def _is_last(flags: tl.tensor, num_parts: tl.tensor) -> tl.tensor:
    """Whether every other program of the row has come here; the last one leaves a clean count."""
    is_last = tl.atomic_add(flags + ARRIVED, 1, sem="acq_rel") == num_parts - 1
    if is_last:
        tl.store(flags + ARRIVED, 0)
    return is_last


@triton.jit(do_not_specialize_on_alignment=ROW_NUMBERS)
def draw_kernel(
    logits: tl.tensor,  # [S, V]
    temperature: tl.tensor,
    seed: tl.tensor,
    positions: tl.tensor,
    listed: tl.tensor,  # [S, groups] int32
    state: tl.tensor,
    flags: tl.tensor,
    queue: tl.tensor,
    times: tl.tensor,  # [S, parts] fp32
    winners: tl.tensor,  # [S, parts] int32
    out: tl.tensor,  # [S] int64
    vocab_size: tl.tensor,
    row_stride: tl.tensor,
    num_groups: tl.tensor,
    N: tl.constexpr,
    PARTS: tl.constexpr,  # rounded up to a power of two
    PDL: tl.constexpr,
) -> None:
    let_next_start(PDL)
    wait_for_input(PDL)
    part = tl.program_id(0)
    for turn in range(tl.program_id(1), tl.load(queue), tl.num_programs(1)):
        sequence = tl.load(queue + 1 + turn).to(tl.int64)
        count = tl.load(flags + sequence * FLAGS + LISTED)
        if part * N < count:
            row = logits + sequence * row_stride
            groups = listed_groups(listed + sequence * num_groups, part * N, count, N)
            scale = LOG2_E / tl.load(temperature + sequence)
            top = tl.load(state + sequence * STATES + TOP)
            floor = tl.load(state + sequence * STATES + FLOOR)
            key = tl.load(seed + sequence)
            position = tl.load(positions + sequence)
            time, winner, w = race(row, groups, vocab_size, scale, top, floor, key, position, True)
            if w >= SERIES_BELOW:
                time, winner, w = race(
                    row, groups, vocab_size, scale, top, floor, key, position, False
                )
            place = sequence * tl.num_programs(0)
            tl.store(times + place + part, time)
            tl.store(winners + place + part, winner)
            num_parts = tl.cdiv(count, N)
            if _is_last(flags + sequence * FLAGS, num_parts):
                parts = tl.arange(0, PARTS)
                time_of = tl.load(
                    times + place + parts,
                    mask=parts < num_parts,
                    other=float("inf"),
                    cache_modifier=".cg",
                )
                winner_of = tl.load(
                    winners + place + parts,
                    mask=parts < num_parts,
                    other=NO_TOKEN,
                    cache_modifier=".cg",
                )
                token = tl.min(tl.where(time_of == tl.min(time_of), winner_of, NO_TOKEN))
                tl.store(out + sequence, token.to(tl.int64))
                tl.store(state + sequence * STATES + DRAWN, tl.load(row + token).to(tl.float32))


@triton.jit(do_not_specialize_on_alignment=ROW_NUMBERS)
def check_kernel(
    logits: tl.tensor,  # [S, V]
    temperature: tl.tensor,
    seed: tl.tensor,
    positions: tl.tensor,
    listed: tl.tensor,  # [S, groups] int32
    state: tl.tensor,
    flags: tl.tensor,
    queue: tl.tensor,
    next_queue: tl.tensor,
    masses: tl.tensor,  # [S, parts] fp32
    out: tl.tensor,  # [S] int64
    vocab_size: tl.tensor,
    row_stride: tl.tensor,
    num_groups: tl.tensor,
    N: tl.constexpr,
    PARTS: tl.constexpr,  # rounded up to a power of two
    IS_FINAL: tl.constexpr,  # no other race follows: the last program of a row runs them
    PDL: tl.constexpr,
) -> None:
    let_next_start(PDL)
    wait_for_input(PDL)
    part = tl.program_id(0)
    for turn in range(tl.program_id(1), tl.load(queue), tl.num_programs(1)):
        sequence = tl.load(queue + 1 + turn).to(tl.int64)
        count = tl.load(flags + sequence * FLAGS + LISTED)
        goal = tl.load(state + sequence * STATES + GOAL)
        if (part * N < count) & (goal < float("inf")):
            row = logits + sequence * row_stride
            groups = listed_groups(listed + sequence * num_groups, part * N, count, N)
            scale = LOG2_E / tl.load(temperature + sequence)
            top = tl.load(state + sequence * STATES + TOP)
            floor = next_above(tl.load(state + sequence * STATES + DRAWN))
            place = sequence * tl.num_programs(0)
            tl.store(masses + place + part, mass(row, groups, vocab_size, scale, top, floor))
            num_parts = tl.cdiv(count, N)
            if _is_last(flags + sequence * FLAGS, num_parts):
                parts = tl.arange(0, PARTS)
                above = tl.load(
                    masses + place + parts,
                    mask=parts < num_parts,
                    other=0.0,
                    cache_modifier=".cg",
                )
                if keeps(tl.sum(above), goal) == 0:
                    if IS_FINAL:
                        token = settle(
                            row,
                            listed + sequence * num_groups,
                            count,
                            vocab_size,
                            scale,
                            top,
                            floor,
                            goal,
                            tl.load(seed + sequence),
                            tl.load(positions + sequence),
                            N,
                        )
                        tl.store(out + sequence, token.to(tl.int64))
                    else:
                        tl.store(state + sequence * STATES + FLOOR, floor)
                        enqueue(next_queue, sequence)
