"""What the sampling kernels share: tokens in groups, their noise, and the race that draws one.

A draw from softmax(z) is a race of exponential clocks: with E exponential noise, the token of the
smallest E / exp(z) wins, which is the largest z + Gumbel noise. A *group* is GROUP neighbouring
tokens, the ones whose noise comes from the same Philox calls.

A filter keeps an upper end of the logits, and the noise of a token is always the same. So the
winner among a larger upper end, if the filter keeps it, is the winner among what the filter
keeps; if not, neither is anything up to its logit, and the race is run again above that. top_p
needs no threshold in this way, only the mass above one token at a time.
"""

import triton
import triton.language as tl

from quire.kernels.sample import numbers

WORDS = tl.constexpr(4)
LANE = tl.constexpr(numbers.LANE)
GROUP = tl.constexpr(WORDS.value * numbers.LANE)
STREAM = tl.constexpr(numbers.STREAM)
ROUNDS = tl.constexpr(numbers.ROUNDS)
GREEDY_BELOW = tl.constexpr(numbers.GREEDY_BELOW)
NOT_A_NUMBER = tl.constexpr(numbers.NOT_A_NUMBER)
NO_TOKEN = tl.constexpr(2**31 - 1)
SERIES_BELOW = tl.constexpr(2.0**-5)
LOG2_E = tl.constexpr(1.4426950408889634)
# Arguments that hold a number a row: slices of tables, at whatever address. One binary for all.
ROW_NUMBERS = ("temperature", "top_k", "top_p", "min_p", "seed", "positions")


@triton.jit
def ordered(x: tl.tensor) -> tl.tensor:
    """fp32 -> int32 with the same order. Adding 0.0 makes -0.0 and 0.0 equal."""
    bits = (x + 0.0).to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
def unordered(key: tl.tensor) -> tl.tensor:
    bits = key ^ ((key >> 31) & 0x7FFFFFFF)
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def load_word(
    row: tl.tensor, groups: tl.tensor, word: tl.constexpr, vocab_size: tl.tensor
) -> tuple[tl.tensor, tl.tensor]:
    """A quarter of each group: token ids and logits [N, LANE]. NaN reads as +inf, what lies
    past the end as -inf."""
    tokens = groups[:, None] * GROUP + word * LANE + tl.arange(0, LANE)[None, :]
    x = tl.load(row + tokens, mask=tokens < vocab_size, other=float("-inf")).to(tl.float32)
    return tokens, tl.where(x < float("inf"), x, float("inf"))


@triton.jit
def exponential(bits: tl.tensor, SERIES: tl.constexpr) -> tuple[tl.tensor, tl.tensor]:
    """(E of `noise.gumbel`, w); as a series, E is exact for w < SERIES_BELOW, too small above."""
    w = (bits.to(tl.float32) + 0.5) * 2.3283064365386963e-10
    if SERIES:
        tail = 1.0 / 3.0 + w * (1.0 / 4.0 + w * (1.0 / 5.0 + w * (1.0 / 6.0)))
        return w * (1.0 + w * (0.5 + w * tail)), w
    series = w * (1.0 + w * (0.5 + w * (1.0 / 3.0)))
    far = -tl.log(tl.maximum(1.0 - w, 2.9802322387695312e-08))
    return tl.where(w < 0.00390625, series, far), w


@triton.jit
def race(
    row: tl.tensor,
    groups: tl.tensor,  # [N]
    vocab_size: tl.tensor,
    scale: tl.tensor,  # log2(e) / temperature
    top: tl.tensor,  # the row's largest logit, whose time is E itself
    floor: tl.tensor,
    seed: tl.tensor,
    position: tl.tensor,
    SERIES: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """The winner among the tokens whose logit is at least `floor`: its time, id and w."""
    c0 = (groups[:, None] * LANE + tl.arange(0, LANE)[None, :]).to(tl.uint32)
    c1 = tl.zeros_like(c0) + (position & 0xFFFFFFFF).to(tl.uint32)
    c2 = tl.zeros_like(c0) + ((position >> 32) & 0xFFFFFFFF).to(tl.uint32)
    c3 = tl.zeros_like(c0) + STREAM
    w0, w1, w2, w3 = tl.philox(seed, c0, c1, c2, c3, ROUNDS)
    times = tl.full(c0.shape, float("inf"), tl.float32)
    winners = tl.full(c0.shape, NO_TOKEN, tl.int32)
    origins = tl.zeros(c0.shape, tl.float32)
    for word in tl.static_range(WORDS):
        bits = w0 if word == 0 else w1 if word == 1 else w2 if word == 2 else w3
        tokens, x = load_word(row, groups, word, vocab_size)
        clock, w = exponential(bits, SERIES)
        time = tl.where(x >= floor, clock * tl.exp2((top - x) * scale), float("inf"))
        origins = tl.where(time < times, w, origins)
        winners = tl.where(time < times, tokens, winners)
        times = tl.minimum(times, time)
    time = tl.min(times)
    origin = tl.max(tl.where(times == time, origins, 0.0)) if SERIES else time
    return time, tl.min(tl.where(times == time, winners, NO_TOKEN)), origin


@triton.jit
def mass(
    row: tl.tensor,
    groups: tl.tensor,
    vocab_size: tl.tensor,
    scale: tl.tensor,
    top: tl.tensor,
    floor: tl.tensor,
) -> tl.tensor:
    """The sum of exp(z - top's z) over the tokens whose logit is at least `floor`."""
    total = tl.zeros([groups.shape[0], LANE], tl.float32)
    for word in tl.static_range(WORDS):
        _, x = load_word(row, groups, word, vocab_size)
        total += tl.where(x >= floor, tl.exp2((x - top) * scale), 0.0)
    return tl.sum(total)


@triton.jit
def listed_groups(
    listed: tl.tensor, start: tl.tensor, count: tl.tensor, N: tl.constexpr
) -> tl.tensor:
    """[N] of `count` listed groups from `start` on, then some that lie past the vocabulary."""
    place = start + tl.arange(0, N)
    return tl.load(listed + place, mask=place < count, other=1 << 25)


@triton.jit
def listed_mass(
    row: tl.tensor,
    listed: tl.tensor,
    count: tl.tensor,
    vocab_size: tl.tensor,
    scale: tl.tensor,
    top: tl.tensor,
    floor: tl.tensor,
    N: tl.constexpr,
) -> tl.tensor:
    """`mass` over the listed groups."""
    total = tl.full([], 0.0, tl.float32)
    for start in range(0, count, N):
        groups = listed_groups(listed, start, count, N)
        total += mass(row, groups, vocab_size, scale, top, floor)
    return total


@triton.jit
def settle(
    row: tl.tensor,
    listed: tl.tensor,
    count: tl.tensor,
    vocab_size: tl.tensor,
    scale: tl.tensor,
    top: tl.tensor,  # the row's largest logit, in a listed group
    floor: tl.tensor,
    goal: tl.tensor,  # the mass that top_p asks for, inf without it
    seed: tl.tensor,
    position: tl.tensor,
    N: tl.constexpr,
) -> tl.tensor:
    """The winner among what top_p keeps of the listed groups' tokens from `floor` up."""
    token = tl.full([], NO_TOKEN, tl.int32)
    is_kept = tl.full([], 0, tl.int32)
    while is_kept == 0:
        best = tl.full([], float("inf"), tl.float32)
        for start in range(0, count, N):
            groups = listed_groups(listed, start, count, N)
            time, winner, _ = race(
                row, groups, vocab_size, scale, top, floor, seed, position, False
            )
            token = tl.where(time < best, winner, token)
            best = tl.minimum(best, time)
        floor = next_above(tl.load(row + token).to(tl.float32))
        above = tl.full([], 0.0, tl.float32)
        if goal < float("inf"):
            above = listed_mass(row, listed, count, vocab_size, scale, top, floor, N)
        is_kept = keeps(above, goal).to(tl.int32)
    return token


@triton.jit
def next_above(x: tl.tensor) -> tl.tensor:
    """The next larger fp32."""
    return unordered(ordered(x) + 1)


@triton.jit
def keeps(above: tl.tensor, goal: tl.tensor) -> tl.tensor:
    """Whether top_p keeps a token that has this mass above it: always if there is none."""
    return (above < goal) | (above == 0.0)
