"""The draw through the sampler: its distribution, and transformers' filters."""

import pytest
import torch
from transformers import MinPLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from quire.core.sampling_params import SamplingParams

V, N = 24, 2500


def _frequencies(harness, request_of, logits, **options):
    """How often each token comes in N draws with different seeds."""
    bench = harness(V, N, max_len=2)
    params = SamplingParams(**options)
    for row in range(N):
        bench.start(row, request_of(params, [0], seed=row))
    tokens = bench.step(logits.expand(N, V), list(range(N))).token_ids
    return torch.bincount(tokens, minlength=V).double() / N


def _check(frequencies, probabilities):
    """Each within five standard deviations, and nothing where there should be nothing."""
    probabilities = probabilities.double()
    spread = (probabilities * (1 - probabilities) / N).sqrt()
    assert ((frequencies - probabilities).abs() <= 5 * spread + 1e-12).all()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.8])
def test_temperature(harness, request_of, temperature):
    logits = torch.randn(1, V)
    frequencies = _frequencies(harness, request_of, logits, temperature=temperature)
    _check(frequencies, torch.softmax(logits[0] / temperature, -1))


@pytest.mark.parametrize(
    ("options", "warper"),
    [
        ({"top_k": 1}, TopKLogitsWarper(1)),
        ({"top_k": 5}, TopKLogitsWarper(5)),
        ({"top_p": 0.5}, TopPLogitsWarper(0.5)),
        ({"top_p": 0.95}, TopPLogitsWarper(0.95)),
        ({"min_p": 0.1}, MinPLogitsWarper(0.1)),
        ({"min_p": 0.5}, MinPLogitsWarper(0.5)),
    ],
    ids=["top_k=1", "top_k=5", "top_p=0.5", "top_p=0.95", "min_p=0.1", "min_p=0.5"],
)
def test_filters_keep_what_transformers_keeps(harness, request_of, options, warper):
    logits = torch.randn(1, V) * 1.5
    kept = warper(torch.zeros(1, 1, dtype=torch.int64), logits.clone() / 0.8)
    frequencies = _frequencies(harness, request_of, logits, temperature=0.8, **options)
    _check(frequencies, torch.softmax(kept[0], -1))
    assert (frequencies > 0).sum() >= min(3, int(torch.isfinite(kept).sum()))


def test_positions_draw_independent_noise(harness, request_of):
    """The same request at successive positions: uniform logits give every token its share."""
    bench = harness(V, 1, max_len=2 + 40 * V)
    bench.start(0, request_of(SamplingParams(), [0], seed=7))
    logits = torch.zeros(1, V)
    tokens = [int(bench.step(logits, [0]).token_ids) for _ in range(40 * V)]
    counts = torch.bincount(torch.tensor(tokens), minlength=V).double()
    chi_squared = float(((counts - 40) ** 2 / 40).sum())
    assert chi_squared < 60  # 23 degrees of freedom: 1 in 30,000 is above 57


def test_a_seed_is_all_64_bits(harness, request_of):
    seeds = [1, 1 + 2**32, 2**63 + 1, 2**64 - 1]
    bench = harness(V, 4)
    for row, seed in enumerate(seeds):
        bench.start(row, request_of(SamplingParams(), [0], seed=seed))
    logits = torch.zeros(4, V)
    runs = torch.stack([bench.step(logits, [0, 1, 2, 3]).token_ids for _ in range(12)], dim=1)
    assert len({tuple(run) for run in runs.tolist()}) == 4
