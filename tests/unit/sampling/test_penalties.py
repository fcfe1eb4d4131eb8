"""Repetition, frequency and presence penalties: the oracle's and transformers'."""

import pytest
import torch
from transformers import RepetitionPenaltyLogitsProcessor

from quire.core.sampling_params import SamplingParams
from quire.sampling import sampler as sampler_module

V = 40


def _params(repetition=1.0, frequency=0.0, presence=0.0):
    return SamplingParams(
        temperature=0,
        repetition_penalty=repetition,
        frequency_penalty=frequency,
        presence_penalty=presence,
    )


MIXED = [
    _params(repetition=1.5),
    _params(repetition=0.7),
    _params(frequency=0.4),
    _params(presence=1.2),
    _params(frequency=-0.3, presence=-0.5),
    _params(repetition=1.3, frequency=0.2, presence=0.1),
]


def _random_request(request_of, params):
    prompt = torch.randint(0, 8, (int(torch.randint(1, 20, ())),)).tolist()
    output = torch.randint(4, 12, (int(torch.randint(0, 20, ())),)).tolist()
    return request_of(params, prompt, output)


@pytest.mark.parametrize("params", MIXED, ids=range(len(MIXED)))
def test_alone(harness, request_of, params):
    bench, logits = harness(V, 3), torch.randn(1, V)
    request = _random_request(request_of, params)
    bench.start(2, request)
    expected = request.expected_logits(logits[0].tolist())
    bench.step(logits, [2])
    torch.testing.assert_close(bench.drawn_from[0], torch.tensor(expected))


@pytest.mark.parametrize("max_elements", [1 << 24, 3 * V, 1])
@pytest.mark.parametrize("use_max_position", [False, True])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_a_batch_in_groups(harness, request_of, monkeypatch, max_elements, use_max_position, dtype):
    monkeypatch.setattr(sampler_module, "MAX_ELEMENTS", max_elements)
    bench, logits = harness(V, 8), torch.randn(7, V)
    bench.tokens = bench.tokens.to(dtype)
    rows = [7, 0, 3, 1, 5, 2, 6]
    for i, row in enumerate(rows):
        params = SamplingParams(temperature=0) if i == 3 else MIXED[i % len(MIXED)]
        bench.start(row, _random_request(request_of, params))
    for _ in range(3):
        requests = [bench.requests[row] for row in rows]
        expected = [r.expected_logits(logits[i].tolist()) for i, r in enumerate(requests)]
        longest = max(len(r.prompt) + len(r.output) for r in requests)
        bench.step(logits, rows, max_position=longest if use_max_position else None)
        torch.testing.assert_close(bench.drawn_from, torch.tensor(expected))


def test_repetition_penalty_is_transformers(harness, request_of):
    bench, logits = harness(V, 1), torch.randn(1, V)
    request = request_of(_params(repetition=1.7), [1, 2, 3, 2], [5, 1])
    bench.start(0, request)
    ids = torch.tensor([request.prompt + request.output])
    expected = RepetitionPenaltyLogitsProcessor(1.7)(ids, logits.clone())
    bench.step(logits, [0])
    torch.testing.assert_close(bench.drawn_from, expected)


def test_banned_tokens_stay_banned(harness, request_of):
    bench, logits = harness(V, 1), torch.randn(1, V)
    params = _params(repetition=2.0, frequency=-2.0, presence=-2.0)
    params.allowed_token_ids = [1, 2]
    bench.start(0, request_of(params, [3, 4], [3, 1]))
    bench.step(logits, [0])
    assert torch.isfinite(bench.drawn_from[0]).nonzero().flatten().tolist() == [1, 2]


def test_a_token_that_is_none_counts_for_nothing(harness, request_of):
    """A failed line leaves -1 behind, and the step after it may already be in the queue."""
    bench, logits = harness(V, 1), torch.randn(1, V)
    request = request_of(_params(repetition=2.0, frequency=1.0), [3], [5, 6])
    bench.start(0, request)
    bench.tokens[0, 2] = -1
    request.output = [5, -1]
    expected = request.expected_logits(logits[0].tolist())
    bench.step(logits, [0])
    torch.testing.assert_close(bench.drawn_from[0], torch.tensor(expected))
