"""Sampling in Triton: no sort, no host synchronisation, three small kernels.

`_threshold_kernel` finds, for rows with filters, the smallest scaled logit that is kept, by
searching the ordered bit patterns of fp32: eight candidates a pass, 11 or so passes over a row
that stays in the L2 cache. `_draw_kernel` adds the noise and takes the best of a part of a row;
`_best_kernel` takes the best of the parts. top_p's masses are summed in fp32, so a token whose
share of the mass lies within rounding of top_p may fall on the other side than the reference's.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from quire.kernels.sample import noise, reference

LANE = tl.constexpr(noise.LANE)
STREAM = tl.constexpr(noise.STREAM)
ROUNDS = tl.constexpr(noise.ROUNDS)
GREEDY_BELOW = tl.constexpr(reference.GREEDY_BELOW)
NOT_A_NUMBER = tl.constexpr(reference.NOT_A_NUMBER)
PIVOTS = tl.constexpr(8)
SEARCH_TILE = 2048  # logits by PIVOTS comparisons at a time
NO_TOKEN = tl.constexpr(2**31 - 1)


@triton.jit
def _ordered(z: tl.tensor) -> tl.tensor:
    """fp32 -> int32 with the same order. Adding 0.0 makes -0.0 and 0.0 equal."""
    bits = (z + 0.0).to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
def _unordered(key: tl.tensor) -> tl.tensor:
    bits = key ^ ((key >> 31) & 0x7FFFFFFF)
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def _amounts(
    row: tl.tensor,
    vocab_size: tl.tensor,
    temperature: tl.tensor,
    top: tl.tensor,
    floor: tl.tensor,
    pivots: tl.tensor,
    MASS: tl.constexpr,
    TILE: tl.constexpr,
) -> tl.tensor:
    """pivots [PIVOTS] -> how many tokens, or how much mass, lie at or above each and `floor`."""
    amounts = tl.zeros([PIVOTS], tl.float32)
    for start in range(0, vocab_size, TILE):
        index = start + tl.arange(0, TILE)
        z = tl.load(row + index, mask=index < vocab_size, other=float("-inf"))
        z = tl.div_rn(z, temperature)
        key = _ordered(z)
        amount = tl.exp(z - top) if MASS else tl.full([TILE], 1.0, tl.float32)
        amount = tl.where((key >= floor) & (index < vocab_size), amount, 0.0)
        above = key[None, :].to(tl.int64) >= pivots[:, None]
        amounts += tl.sum(tl.where(above, amount[None, :], 0.0), axis=1)
    return amounts


@triton.jit
def _search(
    row: tl.tensor,
    vocab_size: tl.tensor,
    temperature: tl.tensor,
    top: tl.tensor,
    floor: tl.tensor,
    goal: tl.tensor,
    MASS: tl.constexpr,
    TILE: tl.constexpr,
) -> tl.tensor:
    """The largest key whose amount (see `_amounts`) reaches `goal`, at most that of `top`."""
    low = _ordered(tl.full([], float("-inf"), tl.float32)).to(tl.int64)  # reaches the goal
    high = _ordered(top).to(tl.int64) + 1  # does not
    while high - low > 1:
        step = tl.maximum((high - low) // PIVOTS, 1)
        pivots = low + step * tl.arange(0, PIVOTS).to(tl.int64)
        amounts = _amounts(row, vocab_size, temperature, top, floor, pivots, MASS, TILE)
        reached = tl.sum(((amounts >= goal) & (pivots < high)).to(tl.int32), axis=0)
        steps = tl.maximum(reached - 1, 0).to(tl.int64)
        last = steps == PIVOTS - 1
        new_low = low + step * steps
        high = tl.where(last, high, tl.minimum(high, new_low + step))
        low = new_low
    return low.to(tl.int32)


@triton.jit
def _threshold_kernel(
    logits: tl.tensor,  # [S, V] fp32
    temperature: tl.tensor,
    top_k: tl.tensor,
    top_p: tl.tensor,
    min_p: tl.tensor,
    thresholds: tl.tensor,  # [S] fp32
    vocab_size: tl.tensor,
    row_stride: tl.tensor,
    TILE: tl.constexpr,
) -> None:
    sequence = tl.program_id(0)
    row = logits + sequence.to(tl.int64) * row_stride
    t = tl.load(temperature + sequence)
    k = tl.load(top_k + sequence)
    p = tl.load(top_p + sequence)
    m = tl.load(min_p + sequence)
    has_k = (k > 0) & (k < vocab_size)
    threshold = tl.full([], float("-inf"), tl.float32)
    if (t >= GREEDY_BELOW) & (has_k | (p < 1.0) | (m > 0.0)):
        maxima = tl.full([TILE], float("-inf"), tl.float32)
        for start in range(0, vocab_size, TILE):
            index = start + tl.arange(0, TILE)
            z = tl.load(row + index, mask=index < vocab_size, other=float("-inf"))
            maxima = tl.maximum(maxima, z)
        top = tl.div_rn(tl.max(maxima, axis=0), t)
        if (top > float("-inf")) & (top < float("inf")):
            floor = _ordered(threshold)
            if m > 0.0:
                floor = _ordered(top + tl.log(m))
            if has_k:
                lowest = _ordered(tl.full([], float("-inf"), tl.float32))
                kth = _search(row, vocab_size, t, top, lowest, k.to(tl.float32), False, TILE)
                floor = tl.maximum(floor, kth)
            if p < 1.0:
                everything = tl.full([PIVOTS], -(2**31), tl.int64)
                amounts = _amounts(row, vocab_size, t, top, floor, everything, True, TILE)
                goal = p * tl.max(amounts, axis=0)
                reached = _search(row, vocab_size, t, top, floor, goal, True, TILE)
                floor = tl.maximum(floor, reached)
            threshold = _unordered(floor)
    tl.store(thresholds + sequence, threshold)


@triton.jit
def _gumbel(bits: tl.tensor) -> tl.tensor:
    """As `noise.gumbel`."""
    w = (bits.to(tl.float32) + 0.5) * 2.3283064365386963e-10
    series = w * (1.0 + w * (0.5 + w * (1.0 / 3.0)))
    far = -tl.log(tl.maximum(1.0 - w, 2.9802322387695312e-08))
    return -tl.log(tl.where(w < 0.00390625, series, far))


@triton.jit
def _draw_kernel(
    logits: tl.tensor,  # [S, V] fp32
    temperature: tl.tensor,
    thresholds: tl.tensor,
    seed: tl.tensor,
    positions: tl.tensor,
    scores: tl.tensor,  # [S, runs] fp32, the best of each run, NaN for not a number
    tokens: tl.tensor,  # [S, runs] int32
    vocab_size: tl.tensor,
    row_stride: tl.tensor,
) -> None:
    sequence = tl.program_id(0)
    run = tl.program_id(1)
    row = logits + sequence.to(tl.int64) * row_stride
    t = tl.load(temperature + sequence)
    threshold = tl.load(thresholds + sequence)
    is_random = t >= GREEDY_BELOW
    lane = tl.arange(0, LANE)
    key = tl.load(seed + sequence)
    position = tl.load(positions + sequence)
    c0 = (run * LANE + lane).to(tl.uint32)
    c1 = tl.zeros_like(c0) + (position & 0xFFFFFFFF).to(tl.uint32)
    c2 = tl.zeros_like(c0) + ((position >> 32) & 0xFFFFFFFF).to(tl.uint32)
    c3 = tl.zeros_like(c0) + STREAM
    w0, w1, w2, w3 = tl.philox(key, c0, c1, c2, c3, ROUNDS)
    best = tl.full([], float("-inf"), tl.float32)
    winner = tl.full([], NO_TOKEN, tl.int32)
    broken = tl.full([], 0, tl.int32)
    for word in tl.static_range(4):
        bits = w0 if word == 0 else w1 if word == 1 else w2 if word == 2 else w3
        index = run * (4 * LANE) + word * LANE + lane
        x = tl.load(row + index, mask=index < vocab_size, other=float("-inf"))
        broken += tl.sum(((x != x) | (x == float("inf"))).to(tl.int32), axis=0)
        z = tl.div_rn(x, tl.where(is_random, t, 1.0))
        score = tl.where(is_random, tl.where(z >= threshold, z + _gumbel(bits), float("-inf")), x)
        part = tl.max(score, axis=0)
        first = tl.min(tl.where(score == part, index, NO_TOKEN), axis=0)
        winner = tl.where(part > best, first, winner)
        best = tl.maximum(best, part)
    place = sequence.to(tl.int64) * tl.num_programs(1) + run
    tl.store(scores + place, tl.where(broken > 0, float("nan"), best))
    tl.store(tokens + place, winner)


@triton.jit
def _best_kernel(
    scores: tl.tensor,  # [S, runs]
    tokens: tl.tensor,
    out: tl.tensor,  # [S] int64
    runs: tl.tensor,
    RUNS: tl.constexpr,  # rounded up to a power of two
) -> None:
    sequence = tl.program_id(0)
    run = tl.arange(0, RUNS)
    place = sequence.to(tl.int64) * runs + run
    score = tl.load(scores + place, mask=run < runs, other=float("-inf"))
    token = tl.load(tokens + place, mask=run < runs, other=NO_TOKEN)
    broken = tl.sum((score != score).to(tl.int32), axis=0)
    best = tl.max(score, axis=0)
    winner = tl.min(tl.where(score == best, token, NO_TOKEN), axis=0)
    is_number = (broken == 0) & (best > float("-inf"))
    tl.store(out + sequence, tl.where(is_number, winner, NOT_A_NUMBER).to(tl.int64))


def sample(
    logits: Tensor,
    temperature: Tensor,
    top_k: Tensor,
    top_p: Tensor,
    min_p: Tensor,
    seed: Tensor,
    positions: Tensor,
) -> Tensor:
    """As `reference.sample`."""
    num_sequences, vocab_size = logits.shape
    device = logits.device
    out = torch.empty(num_sequences, dtype=torch.int64, device=device)
    if num_sequences == 0:
        return out
    assert logits.stride(1) == 1, "a row's logits must be contiguous"
    runs = triton.cdiv(vocab_size, 4 * noise.LANE)
    thresholds = torch.empty(num_sequences, dtype=torch.float32, device=device)
    scores = torch.empty((num_sequences, runs), dtype=torch.float32, device=device)
    tokens = torch.empty((num_sequences, runs), dtype=torch.int32, device=device)
    _threshold_kernel[(num_sequences,)](
        logits,
        temperature,
        top_k,
        top_p,
        min_p,
        thresholds,
        vocab_size,
        logits.stride(0),
        TILE=min(SEARCH_TILE, triton.next_power_of_2(vocab_size)),
        num_warps=16,
    )
    _draw_kernel[(num_sequences, runs)](
        logits,
        temperature,
        thresholds,
        seed,
        positions,
        scores,
        tokens,
        vocab_size,
        logits.stride(0),
        num_warps=8,
    )
    _best_kernel[(num_sequences,)](
        scores, tokens, out, runs, RUNS=triton.next_power_of_2(runs), num_warps=1
    )
    return out
