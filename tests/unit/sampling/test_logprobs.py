"""Log-probabilities: raw, ranked, each line cut to what it asked for."""

import pytest
import torch

from quire.core.sampling_params import SamplingParams
from quire.sampling import sampler as sampler_module

V = 30


def _check(entry, request, line, token, k):
    """One entry against the oracle."""
    expected, rank = request.expected_logprobs(line, token)
    assert entry.token_ids[0] == token
    assert entry.rank == rank
    assert len(entry.token_ids) == len(entry.logprobs) == 1 + k
    assert entry.logprobs == pytest.approx([expected[t] for t in entry.token_ids], abs=1e-5)
    best_first = sorted(range(V), key=lambda t: -line[t])
    assert entry.token_ids[1:] == best_first[:k]


@pytest.mark.parametrize("temperature", [0.0, 1.3])
def test_each_line_gets_its_own_k(harness, request_of, temperature):
    bench, logits = harness(V, 6), torch.randn(6, V) * 2
    asked = [0, None, 3, -1, 1, 100]
    for row, k in enumerate(asked):
        # What the draw sees is far from the raw logits.
        params = SamplingParams(
            temperature=temperature, logprobs=k, presence_penalty=2.0, logit_bias={row: 20.0}
        )
        bench.start(row, request_of(params, [1, 2], [3, 4], seed=row))
    requests = [bench.requests[row] for row in range(6)]
    output = bench.step(logits, list(range(6)))
    assert output.logprob_lines == [0, 2, 3, 4, 5]
    entries = output.logprobs.to_host()
    for line, entry in zip(output.logprob_lines, entries, strict=True):
        k = V if asked[line] in (-1, 100) else asked[line]
        token = int(output.token_ids[line])
        _check(entry, requests[line], logits[line].tolist(), token, k)


def test_all_lines(harness, request_of):
    bench, logits = harness(V, 3), torch.randn(3, V)
    for row in range(3):
        bench.start(row, request_of(SamplingParams(logprobs=2, allowed_token_ids=[row]), [1]))
    output = bench.step(logits, [2, 0, 1])
    assert output.token_ids.tolist() == [2, 0, 1]
    assert output.logprobs.token_ids.shape == output.logprobs.logprobs.shape == (3, 3)
    for entry, line, token in zip(output.logprobs.to_host(), logits.tolist(), [2, 0, 1]):
        _check(entry, bench.requests[token], line, token, 2)


def test_equal_tokens_share_the_better_rank(harness, request_of):
    bench, logits = harness(V, 1), torch.zeros(1, V)
    logits[0, 3] = 1.0
    bench.start(0, request_of(SamplingParams(logprobs=1, allowed_token_ids=[7]), [1]))
    (entry,) = bench.step(logits, [0]).logprobs.to_host()
    assert entry.rank == 2
    assert entry.token_ids == [7, 3]


@pytest.mark.parametrize("max_elements", [1 << 24, 3 * V, 1])
@pytest.mark.parametrize("k", [0, 1, 4, -1])
def test_prompt_logprobs(harness, request_of, monkeypatch, max_elements, k):
    monkeypatch.setattr(sampler_module, "MAX_ELEMENTS", max_elements)
    logits, targets = torch.randn(8, V), torch.randint(0, V, (8,), dtype=torch.int32)
    before = logits.clone()
    result = harness(V, 1).sampler.prompt_logprobs(logits, targets, k)
    assert torch.equal(logits, before)
    request = request_of(SamplingParams(), [1])
    for entry, line, token in zip(result.to_host(), logits.tolist(), targets.tolist(), strict=True):
        _check(entry, request, line, token, V if k == -1 else k)


def test_no_prompt_tokens(harness):
    empty = harness(V, 1).sampler.prompt_logprobs(
        torch.empty(0, V), torch.empty(0, dtype=torch.int64), 2
    )
    assert empty.to_host() == []
