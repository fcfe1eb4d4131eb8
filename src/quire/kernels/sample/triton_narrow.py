"""Rows with filters: how far down the logits the filters reach, and the draw if that is near.

`survey_kernel` writes each group's largest logit, its *peak*, and its mass. From these alone
`narrow_kernel`, a program a row, finds the groups that can hold a token the filters keep:

- top_k: those whose peak is at least the k-th largest peak, since k tokens are. The k-th largest
  logit is searched among their tokens.
- min_p: those whose peak passes.
- top_p: those whose peak is above a logit below which there surely is no more mass than top_p
  leaves out.

FEW groups or less, the rule with real logits, are drawn from at once. Other rows leave with an
exact floor (top_k, min_p) or a safe one (top_p), the mass that top_p asks for, and the list of
their groups; `triton_draw` goes on with them.
"""

import triton
import triton.language as tl

from quire.kernels.sample.triton_race import (
    GREEDY_BELOW,
    GROUP,
    LANE,
    LOG2_E,
    NO_TOKEN,
    NOT_A_NUMBER,
    ROW_NUMBERS,
    WORDS,
    listed_groups,
    listed_mass,
    load_word,
    ordered,
    settle,
    unordered,
)
from quire.kernels.triton_chain import let_next_start, wait_for_input

# What a row's kernels tell each other. State [S, 4] fp32:
TOP = tl.constexpr(0)  # the largest logit
FLOOR = tl.constexpr(1)  # tokens of smaller logits are out
GOAL = tl.constexpr(2)  # the mass that top_p asks for, inf without it
DRAWN = tl.constexpr(3)  # the logit of the last race's winner
STATES = tl.constexpr(4)
# Flags [S, 2] int32:
LISTED = tl.constexpr(0)  # how many groups are listed
ARRIVED = tl.constexpr(1)  # programs of the running kernel that are through with the row
FLAGS = tl.constexpr(2)


@triton.jit(do_not_specialize=["queue_stride"], do_not_specialize_on_alignment=ROW_NUMBERS)
def survey_kernel(
    logits: tl.tensor,  # [S, V]
    temperature: tl.tensor,
    top_p: tl.tensor,
    peaks: tl.tensor,  # [S, groups] fp32
    masses: tl.tensor,  # [S, groups] fp32, as multiples of the peak's; for top_p alone
    flags: tl.tensor,
    queues: tl.tensor,  # [races, queue_stride] int32: how many rows, and which
    vocab_size: tl.tensor,
    row_stride: tl.tensor,
    num_groups: tl.tensor,
    queue_stride: tl.tensor,
    RACES: tl.constexpr,
    N: tl.constexpr,
    PDL: tl.constexpr,
) -> None:
    let_next_start(PDL)
    wait_for_input(PDL)
    part = tl.program_id(0)
    sequence = tl.program_id(1).to(tl.int64)
    if part == 0:
        tl.store(flags + sequence * FLAGS + ARRIVED, 0)
        if sequence == 0:
            for race in tl.static_range(RACES):
                tl.store(queues + race * queue_stride, 0)
    t = tl.load(temperature + sequence)
    p = tl.load(top_p + sequence)
    row = logits + sequence * row_stride
    groups = part * N + tl.arange(0, N)
    place = sequence * num_groups + groups
    peak = tl.full([N], float("-inf"), tl.float32)
    for word in tl.static_range(WORDS):
        _, x = load_word(row, groups, word, vocab_size)
        peak = tl.maximum(peak, tl.max(x, axis=1))
    tl.store(peaks + place, peak)
    if (t >= GREEDY_BELOW) & (p < 1.0):
        base = tl.where(peak > float("-inf"), peak, 0.0)
        total = tl.zeros([N], tl.float32)
        for word in tl.static_range(WORDS):
            _, x = load_word(row, groups, word, vocab_size)
            total += tl.sum(tl.exp2((x - base[:, None]) * (LOG2_E / t)), axis=1)
        tl.store(masses + place, total)


@triton.jit
def _first_of(
    row: tl.tensor, peak: tl.tensor, top: tl.tensor, vocab_size: tl.tensor, GROUPS: tl.constexpr
) -> tl.tensor:
    """The first token whose logit is `top`."""
    group = tl.min(tl.where(peak == top, tl.arange(0, GROUPS), GROUPS - 1))
    tokens = group * GROUP + tl.arange(0, GROUP)
    x = tl.load(row + tokens, mask=tokens < vocab_size, other=float("-inf")).to(tl.float32)
    return tl.min(tl.where(x == top, tokens, NO_TOKEN))


@triton.jit
def _list(peak: tl.tensor, reach: tl.tensor, listed: tl.tensor, GROUPS: tl.constexpr) -> tl.tensor:
    """Write down the groups whose peak is at least `reach`; returns how many they are."""
    chosen = peak >= reach
    place = tl.cumsum(chosen.to(tl.int32), axis=0) - 1
    tl.store(listed + place, tl.arange(0, GROUPS), mask=chosen)
    tl.debug_barrier()
    return tl.sum(chosen.to(tl.int32))


@triton.jit
def _reach_of_top_k(
    peak: tl.tensor, k: tl.tensor, top: tl.tensor, SHIFT: tl.constexpr, ENOUGH: tl.constexpr
) -> tl.tensor:
    """A value that at least k peaks reach, if so many do, but no more than k or ENOUGH of them."""
    keys = ordered(peak) >> SHIFT
    reached = (ordered(tl.full([], float("-inf"), tl.float32)) >> SHIFT).to(tl.int64)
    missed = (ordered(top) >> SHIFT).to(tl.int64) + 1
    count = tl.sum((keys >= reached.to(tl.int32)).to(tl.int32))
    while (missed - reached > 1) & (count > tl.maximum(k, ENOUGH)):
        pivot = (missed + reached) >> 1
        above = tl.sum((keys >= pivot.to(tl.int32)).to(tl.int32))
        enough = above >= k
        count = tl.where(enough, above, count)
        reached = tl.where(enough, pivot, reached)
        missed = tl.where(enough, missed, pivot)
    return _logit_of(reached, SHIFT)


@triton.jit
def _kth_largest(
    row: tl.tensor,
    listed: tl.tensor,
    count: tl.tensor,
    k: tl.tensor,
    vocab_size: tl.tensor,
    low: tl.tensor,
    high: tl.tensor,
    SHIFT: tl.constexpr,
    N: tl.constexpr,
) -> tl.tensor:
    """The k-th largest logit of the listed groups; at most `high`, and `low` if it is not more."""
    reached = (ordered(low) >> SHIFT).to(tl.int64)
    missed = (ordered(high) >> SHIFT).to(tl.int64) + 1
    while missed - reached > 1:
        pivot = (missed + reached) >> 1
        above = tl.zeros([N, LANE], tl.int32)
        for start in range(0, count, N):
            groups = listed_groups(listed, start, count, N)
            for word in tl.static_range(WORDS):
                _, x = load_word(row, groups, word, vocab_size)
                above += ((ordered(x) >> SHIFT) >= pivot.to(tl.int32)).to(tl.int32)
        enough = tl.sum(above) >= k
        reached = tl.where(enough, pivot, reached)
        missed = tl.where(enough, missed, pivot)
    return _logit_of(reached, SHIFT)


@triton.jit
def _logit_of(key: tl.tensor, SHIFT: tl.constexpr) -> tl.tensor:
    """From `ordered(x) >> SHIFT` back to x."""
    whole = key.to(tl.int32) << SHIFT
    return unordered(tl.where(whole < 0, whole | ((1 << SHIFT) - 1), whole))


@triton.jit
def _nucleus_floor(
    peak: tl.tensor,
    group_mass: tl.tensor,
    scale: tl.tensor,
    top: tl.tensor,
    spare: tl.tensor,
    vocab_size: tl.tensor,
) -> tl.tensor:
    """A logit below which lies at most the mass `spare`, by what is known of groups."""
    low = top - tl.log2(vocab_size / spare) / scale  # so little is each token below
    high = top
    beside_peak = tl.maximum(group_mass - tl.exp2((peak - top) * scale), 0.0)
    for _ in range(8):
        middle = 0.5 * (low + high)
        most = tl.minimum(beside_peak, (GROUP - 1) * tl.exp2((middle - top) * scale))
        below = tl.sum(tl.where(peak < middle, group_mass, most))
        low = tl.where(below <= spare, middle, low)
        high = tl.where(below <= spare, high, middle)
    return low


@triton.jit(do_not_specialize_on_alignment=ROW_NUMBERS)
def narrow_kernel(
    logits: tl.tensor,  # [S, V]
    temperature: tl.tensor,
    top_k: tl.tensor,
    top_p: tl.tensor,
    min_p: tl.tensor,
    seed: tl.tensor,
    positions: tl.tensor,
    peaks: tl.tensor,  # [S, groups]
    masses: tl.tensor,
    listed: tl.tensor,  # [S, groups] int32
    state: tl.tensor,
    flags: tl.tensor,
    queue: tl.tensor,  # of the first race
    out: tl.tensor,  # [S] int64
    vocab_size: tl.tensor,
    row_stride: tl.tensor,
    num_groups: tl.tensor,
    GROUPS: tl.constexpr,  # num_groups rounded up to a power of two
    SHIFT: tl.constexpr,  # low bits that are the same in all fp32 values of the logits' dtype
    FEW: tl.constexpr,
    N: tl.constexpr,
    PDL: tl.constexpr,
) -> None:
    let_next_start(PDL)
    wait_for_input(PDL)
    sequence = tl.program_id(0).to(tl.int64)
    row = logits + sequence * row_stride
    listed += sequence * num_groups
    group = tl.arange(0, GROUPS)
    inside = group < num_groups
    peak = tl.load(peaks + sequence * num_groups + group, mask=inside, other=float("-inf"))
    top = tl.max(peak)
    token = tl.full([], NOT_A_NUMBER, tl.int32)
    t = tl.load(temperature + sequence)
    if (top > float("-inf")) & (top < float("inf")):
        if t < GREEDY_BELOW:
            token = _first_of(row, peak, top, vocab_size, GROUPS)
        else:
            k = tl.load(top_k + sequence)
            p = tl.load(top_p + sequence)
            m = tl.load(min_p + sequence)
            has_k = (k > 0) & (k < vocab_size)
            scale = LOG2_E / t
            floor = tl.full([], float("-inf"), tl.float32)
            goal = tl.full([], float("inf"), tl.float32)
            if m > 0.0:
                floor = top + t * tl.log(m)
            reach = floor
            if has_k:
                reach = tl.maximum(reach, _reach_of_top_k(peak, k, top, SHIFT, N))
            elif (p < 1.0) & (m <= 0.0):
                place = masses + sequence * num_groups + group
                mass = tl.load(place, mask=inside, other=0.0) * tl.exp2((peak - top) * scale)
                total = tl.sum(mass)
                goal = p * total
                spare = tl.maximum(1.0 - p - 1e-5, 0.0) * total  # more than fp32's errors
                reach = _nucleus_floor(peak, mass, scale, top, spare, vocab_size)
                floor = reach
            count = _list(peak, reach, listed, GROUPS)
            if has_k:
                kth = _kth_largest(row, listed, count, k, vocab_size, reach, top, SHIFT, N)
                floor = tl.maximum(floor, kth)
            if (p < 1.0) & (has_k | (m > 0.0)):
                goal = p * listed_mass(row, listed, count, vocab_size, scale, top, floor, N)
            if count <= FEW:
                noise, position = tl.load(seed + sequence), tl.load(positions + sequence)
                token = settle(
                    row, listed, count, vocab_size, scale, top, floor, goal, noise, position, N
                )
            else:
                tl.store(state + sequence * STATES + TOP, top)
                tl.store(state + sequence * STATES + FLOOR, floor)
                tl.store(state + sequence * STATES + GOAL, goal)
                tl.store(flags + sequence * FLAGS + LISTED, count)
                enqueue(queue, sequence)
    tl.store(out + sequence, token.to(tl.int64))


@triton.jit
def enqueue(queue: tl.tensor, sequence: tl.tensor) -> None:
    """Append to a queue, in whatever order: rows do not depend on each other."""
    place = tl.atomic_add(queue, 1)
    tl.store(queue + 1 + place, sequence.to(tl.int32))
