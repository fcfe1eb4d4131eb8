"""The sampler's noise: a pure function of (seed, position, token id).

The bits are Philox-4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as
1, 2, 3", SC 2011). It is counter-based, passes BigCrush, and gives four words per call, one for
each of four tokens, which makes it affordable on a CPU: 0.75 ms for 131072 tokens on one core of
an AMD EPYC (AVX-512, 2026-11). Nothing here keeps state, so a continuation after a restart or a
preemption draws the noise it would have drawn.

    key     = (seed & 0xffffffff, seed >> 32)
    counter = (c, position & 0xffffffff, position >> 32, STREAM)

The vocabulary is cut into runs of 4 * LANE tokens. Token 4 * LANE * r + LANE * w + j (w < 4,
j < LANE) takes word w of the call with c = LANE * r + j, so that four neighbouring runs of
LANE tokens share their calls and a GPU reads its logits in order.

The same code runs on torch tensors (int64, masked to 32 bits) and on NumPy arrays (uint64),
which is four times as fast on a CPU.
"""

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from quire.kernels.sample.numbers import LANE, ROUNDS, STREAM

MULTIPLIER_0 = 0xD2511F53
MULTIPLIER_1 = 0xCD9E8D57
KEY_STEP_0 = 0x9E3779B9
KEY_STEP_1 = 0xBB67AE85
MASK = 0xFFFFFFFF

Words = TypeVar("Words", Tensor, np.ndarray)


def philox(c0: Words, c1: Words, c2: Words, c3: Words, k0: Words, k1: Words) -> list[Words]:
    """Four words in [0, 2^32) per counter; all arguments broadcast against each other."""
    for _ in range(ROUNDS):
        product_0, product_1 = c0 * MULTIPLIER_0, c2 * MULTIPLIER_1
        c0 = ((product_1 >> 32) & MASK) ^ c1 ^ k0
        c1 = product_1 & MASK
        c2 = ((product_0 >> 32) & MASK) ^ c3 ^ k1
        c3 = product_0 & MASK
        k0, k1 = (k0 + KEY_STEP_0) & MASK, (k1 + KEY_STEP_1) & MASK
    return [c0, c1, c2, c3]


def _words(counters: Tensor, seed: Tensor, positions: Tensor) -> list[Tensor]:
    """Philox for counters [n] or [S, n] of rows with seed [S], positions [S]: four of [S, n]."""
    seed, positions = seed.unsqueeze(1), positions.unsqueeze(1)
    arguments = (
        counters,
        positions & MASK,
        (positions >> 32) & MASK,
        torch.full_like(positions, STREAM),
        seed & MASK,
        (seed >> 32) & MASK,
    )
    if seed.device.type != "cpu":
        return philox(*arguments)
    arrays = philox(*(argument.numpy().view(np.uint64) for argument in arguments))
    return [torch.from_numpy(array.view(np.int64)) for array in arrays]


def random_bits(seed: Tensor, positions: Tensor, vocab_size: int) -> Tensor:
    """seed, positions [S] int64 -> [S, V] int64 words in [0, 2^32), one for each token."""
    runs = -(-vocab_size // (4 * LANE))
    counters = torch.arange(runs * LANE, device=seed.device)
    words = [word.view(-1, runs, LANE) for word in _words(counters, seed, positions)]
    return torch.stack(words, dim=2).view(-1, runs * 4 * LANE)[:, :vocab_size]


def random_bits_at(seed: Tensor, positions: Tensor, token_ids: Tensor) -> Tensor:
    """The words of `token_ids` [S, n] alone: [S, n]."""
    counters = (token_ids // (4 * LANE)) * LANE + token_ids % LANE
    words = torch.stack(_words(counters, seed, positions))
    return words.gather(0, ((token_ids // LANE) % 4).unsqueeze(0)).squeeze(0)


def gumbel(bits: Tensor) -> Tensor:
    """Words in [0, 2^32) -> standard Gumbel noise fp32: -log(E), E = -log(1 - w) exponential.

    w = (bits + 1/2) / 2^32 keeps its relative precision near 0, where E is small and the noise
    large: it is the upper tail that lets an unlikely token win. There, log(1 - w) would lose
    it, so a series takes over (its error at w = 2^-8 is below half an fp32 ulp).
    """
    w = (bits.float() + 0.5) * 2.0**-32
    series = w * (1.0 + w * (0.5 + w * (1.0 / 3.0)))
    exponential = torch.where(w < 2.0**-8, series, -torch.log((1.0 - w).clamp(min=2.0**-25)))
    return -torch.log(exponential)
