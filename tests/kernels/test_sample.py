"""Sampling: noise, filters, edge cases, and the distribution it draws from."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from quire.kernels.sample import noise
from quire.kernels.sample.reference import keep
from quire.kernels.table import DrawNumbers, Ops

INF, NAN = float("inf"), float("nan")


@dataclass(frozen=True)
class Rows:
    """The logits and the numbers of `sample`, in order."""

    logits: Tensor
    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    min_p: Tensor
    seed: Tensor
    positions: Tensor

    def run(self, ops: Ops) -> Tensor:
        logits, *numbers = (getattr(self, field.name) for field in fields(self))
        return ops.sample(logits, DrawNumbers(*numbers))

    def take(self, index: Tensor) -> "Rows":
        return Rows(*(getattr(self, field.name)[index] for field in fields(self)))


def make_rows(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    seed: int = 0,
) -> Rows:
    """The same parameters for every row; row i stands at position i."""
    n, device = logits.shape[0], logits.device
    return Rows(
        logits,
        torch.full((n,), temperature, device=device),
        torch.full((n,), top_k, dtype=torch.int32, device=device),
        torch.full((n,), top_p, device=device),
        torch.full((n,), min_p, device=device),
        torch.full((n,), seed, dtype=torch.int64, device=device),
        torch.arange(n, device=device),
    )


# --- noise -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counter_and_key", "words"),
    [
        ([0] * 6, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 6, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_known_answers(counter_and_key: list[int], words: list[int]) -> None:
    """Test vectors of the authors' Random123, by torch and by NumPy."""
    tensors = [torch.tensor([value]) for value in counter_and_key]
    assert [int(word) for word in noise.philox(*tensors)] == words
    arrays = [np.array([value], np.uint64) for value in counter_and_key]
    assert [int(word[0]) for word in noise.philox(*arrays)] == words


def test_noise_of_single_tokens_is_that_of_the_row(device: torch.device) -> None:
    seed = torch.tensor([3, -7, 1 << 50], device=device)
    positions = torch.tensor([0, 5, 1 << 33], device=device)
    bits = noise.random_bits(seed, positions, 9001)
    assert bits.shape == (3, 9001)
    assert bits.min() >= 0
    assert bits.max() < 1 << 32
    tokens = torch.tensor([[0, 1023, 1024, 4095, 4096, 9000]], device=device).expand(3, -1)
    assert torch.equal(noise.random_bits_at(seed, positions, tokens), bits.gather(1, tokens))


def test_gumbel_is_finite_and_accurate_in_the_upper_tail() -> None:
    bits = torch.tensor([0, 1, 1000, 1 << 24, (1 << 24) + 9, 1 << 31, (1 << 32) - 1])
    w = (bits.double() + 0.5) / 2**32
    exact = -torch.log(-torch.log1p(-w))
    actual = noise.gumbel(bits)
    assert torch.isfinite(actual).all()
    torch.testing.assert_close(actual[:-1].double(), exact[:-1], atol=2e-5, rtol=2e-6)


# --- every implementation gives the reference's tokens -----------------------------------------


@pytest.mark.parametrize("vocab_size", [1, 5, 100, 1024, 5000])
def test_mixed_rows(
    ops: Ops, reference: Ops, vocab_size: int, dtype: torch.dtype, randn: Callable[..., Tensor]
) -> None:
    rows = make_rows((randn(10, vocab_size) * 3).to(dtype))
    settings = [  # temperature, top_k, top_p, min_p
        (0.0, 0, 1.0, 0.0),
        (1.0, 0, 1.0, 0.0),
        (0.6, 0, 1.0, 0.0),
        (1.0, 1, 1.0, 0.0),
        (1.0, 20, 1.0, 0.0),
        (1.2, 0, 0.9, 0.0),
        (1.0, 0, 1.0, 0.1),
        (0.8, 50, 0.95, 0.02),
        (2.0, 10**6, 0.5, 0.0),
        (1.0, 3, 0.0001, 0.0),
    ]
    device = rows.logits.device
    for name, column in zip(("temperature", "top_k", "top_p", "min_p"), zip(*settings)):
        old = getattr(rows, name)
        rows = replace(rows, **{name: torch.tensor(column, dtype=old.dtype, device=device)})
    rows = replace(rows, seed=torch.arange(10, device=device) * 2**40 - 3)
    assert torch.equal(rows.run(ops), rows.run(reference))


@pytest.mark.parametrize(
    "filters", [{"top_k": 7}, {"top_p": 0.7}, {"min_p": 0.2}, {"top_k": 30, "top_p": 0.8}]
)
def test_filters_at_many_positions(
    ops: Ops,
    reference: Ops,
    interpreted: bool,
    filters: dict[str, float],
    randn: Callable[..., Tensor],
) -> None:
    """Flat logits and many draws: a filter one token too wide or narrow would show."""
    draws = 12 if interpreted else 200
    rows = make_rows(randn(1, 300).repeat(draws, 1), seed=11, **filters)
    tokens = rows.run(ops)
    assert torch.equal(tokens, rows.run(reference))
    settings = {"top_k": 0, "top_p": 1.0, "min_p": 0.0} | filters
    allowed = keep(rows.logits[0], **settings).nonzero().flatten().tolist()
    assert set(tokens.tolist()) <= set(allowed)
    assert len(set(tokens.tolist())) > 3


def test_top_p_beyond_the_first_thousand(
    ops: Ops, reference: Ops, randn: Callable[..., Tensor]
) -> None:
    """Nearly flat logits: the smallest set with 0.9 of the mass is most of a wide row."""
    rows = make_rows(randn(3, 10000) * 0.1, top_p=0.9, seed=5)
    assert torch.equal(rows.run(ops), rows.run(reference))


# --- meaning -----------------------------------------------------------------------------------


def test_filters_never_split_a_tie(ops: Ops, interpreted: bool, device: torch.device) -> None:
    draws = 12 if interpreted else 200
    logits = torch.tensor([[2.0, 1.0, 1.0, 0.0, -0.0]], device=device).repeat(draws, 1)
    for filters in ({"top_k": 2}, {"top_p": 0.6}):
        assert set(make_rows(logits, seed=3, **filters).run(ops).tolist()) == {0, 1, 2}
    zeros = torch.tensor([[0.0, -0.0, -9.0]], device=device).repeat(draws // 2, 1)
    assert set(make_rows(zeros, top_k=1).run(ops).tolist()) == {0, 1}


def test_keep() -> None:
    z = torch.tensor([0.5, 0.25, 0.125, 0.0625, 0.0625]).log()
    expected = {
        (0, 1.0, 0.0): [0, 1, 2, 3, 4],
        (2, 1.0, 0.0): [0, 1],
        (0, 0.7, 0.0): [0, 1],
        (0, 0.76, 0.0): [0, 1, 2],
        (0, 0.4, 0.0): [0],
        (0, 0.0, 0.0): [0],
        (4, 1.0, 0.0): [0, 1, 2, 3, 4],
        (2, 0.66, 0.0): [0],  # of the remaining 0.75, 0.5 is two thirds
        (2, 0.67, 0.0): [0, 1],
        (0, 1.0, 0.4): [0, 1],
        (0, 0.66, 0.4): [0],
        (0, 1.0, 1.0): [0],
    }
    for (top_k, top_p, min_p), tokens in expected.items():
        assert keep(z, top_k, top_p, min_p).nonzero().flatten().tolist() == tokens


def test_greedy_takes_the_lowest_of_equals(ops: Ops, randn: Callable[..., Tensor]) -> None:
    logits = randn(3, 6000).clamp(max=2.0)
    logits[0, [5, 77, 5999]] = 9.0
    logits[1, [1023, 4096]] = 9.0
    logits[2, 5999] = 9.0
    rows = make_rows(logits, temperature=0.0, top_k=3, top_p=0.1, seed=4)
    assert rows.run(ops).tolist() == [5, 1023, 5999]


@pytest.mark.filterwarnings("ignore:All-NaN slice encountered")  # in Triton's interpreter
def test_not_a_number(ops: Ops, randn: Callable[..., Tensor]) -> None:
    """A broken row gives -1 and costs the others nothing, whatever their parameters."""
    logits = randn(6, 5000)
    logits[0, 4500] = NAN
    logits[1, 3] = INF
    logits[2] = -INF
    logits[3, :] = -INF
    logits[3, 4321] = 0.25  # a row with one allowed token is fine
    logits[4, 7] = -INF
    for settings in ({}, {"temperature": 0.0}, {"top_k": 5, "top_p": 0.9, "min_p": 0.1}):
        tokens = make_rows(logits, **settings).run(ops).tolist()
        assert tokens[:4] == [-1, -1, -1, 4321]
        assert tokens[4] != 7
        assert all(0 <= token < 5000 for token in tokens[4:])


def test_no_rows(ops: Ops, device: torch.device) -> None:
    assert make_rows(torch.zeros(0, 10, device=device)).run(ops).shape == (0,)


def test_alone_and_in_a_batch_of_64(
    ops: Ops, interpreted: bool, randn: Callable[..., Tensor]
) -> None:
    size = 10 if interpreted else 64
    rows = make_rows(randn(size, 200), seed=99)
    rows.top_k[::5] = 40
    together = rows.run(ops)
    device = rows.logits.device
    for i in range(0, size, size // 4):
        alone = rows.take(torch.tensor([i], device=device))
        assert alone.run(ops).item() == together[i].item()
    order = torch.randperm(size, generator=torch.Generator().manual_seed(0)).to(device)
    assert torch.equal(rows.take(order).run(ops), together[order])


# --- statistics --------------------------------------------------------------------------------


def chi_square(counts: Tensor, probabilities: Tensor) -> float:
    """Standardised: (X^2 - df) / sqrt(2 df) is about normal."""
    expected = probabilities * counts.sum()
    statistic = ((counts - expected) ** 2 / expected).sum()
    df = counts.numel() - 1
    return float((statistic - df) / (2 * df) ** 0.5)


@pytest.mark.parametrize("by", ["seed", "position"])
def test_draws_follow_the_softmax(by: str, native_ops: Ops, device: torch.device) -> None:
    """6000 draws over seeds or over positions; fixed numbers, so the result never changes."""
    draws, vocab_size, temperature = 6000, 40, 0.7
    row = torch.randn(vocab_size, generator=torch.Generator().manual_seed(5)).to(device)
    rows = make_rows(row.expand(draws, -1).contiguous(), temperature=temperature, seed=1234)
    if by == "seed":
        rows = replace(rows, seed=rows.positions, positions=torch.full_like(rows.positions, 17))
    tokens = rows.run(native_ops)
    counts = tokens.bincount(minlength=vocab_size).double()
    assert abs(chi_square(counts, (row.double() / temperature).softmax(-1))) < 4


def test_filtered_draws_follow_the_renormalised_softmax(
    native_ops: Ops, device: torch.device
) -> None:
    row = torch.randn(40, generator=torch.Generator().manual_seed(6)).to(device)
    rows = make_rows(row.expand(6000, -1).contiguous(), top_k=12, top_p=0.9, seed=8)
    kept = keep(row, 12, 0.9, 0.0)
    counts = rows.run(native_ops).bincount(minlength=40).double()
    assert counts[~kept].sum() == 0
    assert abs(chi_square(counts[kept], row[kept].double().softmax(-1))) < 4


def test_seeds_and_positions_are_independent(device: torch.device) -> None:
    """Neighbouring seeds, positions and tokens share no bits beyond chance."""
    n = 64
    seeds = torch.arange(n, device=device).repeat_interleave(n)
    positions = torch.arange(n, device=device).repeat(n)
    bits = noise.random_bits(seeds, positions, 16).view(n, n, 16).double() / 2**32 - 0.5
    off_diagonal = ~torch.eye(n, dtype=torch.bool, device=device)
    for product in (
        bits[1:] * bits[:-1],  # the next seed
        bits[:, 1:] * bits[:, :-1],  # the next position
        bits[..., 1:] * bits[..., :-1],  # the next token
        (bits.transpose(0, 1) * bits)[off_diagonal],  # seed and position exchanged
    ):
        correlation = float(product.mean()) * 12  # of uniforms, variance 1/12
        independent = product.numel() / 2  # at least: the exchanged pairs come twice
        assert abs(correlation) * independent**0.5 < 4
