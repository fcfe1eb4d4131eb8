"""Masks, bans and biases, each against the oracle in conftest.py."""

import numpy as np
import pytest
import torch

from quire.core.sampling_params import SamplingParams
from quire.sampling import sampler as sampler_module
from quire.sampling.token_mask import pack

V = 37  # not a multiple of 32: the last word of a mask is partly outside the vocabulary
BANNED = float("-inf")


def _check(harness, request, logits):
    """One request through the sampler: what the draw sees is what the oracle says."""
    bench = harness(V, 2)
    bench.start(1, request)
    expected = request.expected_logits(logits[0].tolist())
    bench.step(logits, [1])
    torch.testing.assert_close(bench.drawn_from[0], torch.tensor(expected))
    return bench.drawn_from[0]


@pytest.fixture
def logits():
    return torch.randn(1, V)


@pytest.mark.parametrize("allowed", [[0], [36], [3, 31, 32, 33], list(range(V))])
def test_allowed_token_ids(harness, request_of, logits, allowed):
    request = request_of(SamplingParams(temperature=0, allowed_token_ids=allowed), [1, 2])
    seen = _check(harness, request, logits)
    assert torch.isfinite(seen).nonzero().flatten().tolist() == allowed


def test_masks_of_many_lines_in_small_groups(harness, request_of, monkeypatch):
    monkeypatch.setattr(sampler_module, "MAX_ELEMENTS", 2 * V)
    bench, logits = harness(V, 8), torch.randn(7, V)
    rows = [6, 0, 5, 1, 4, 2, 3]
    for row in rows:
        allowed = None if row == 4 else [row, 2 * row + 1]
        bench.start(row, request_of(SamplingParams(temperature=0, allowed_token_ids=allowed), [1]))
    expected = [bench.requests[r].expected_logits(logits[i].tolist()) for i, r in enumerate(rows)]
    bench.step(logits, rows)
    torch.testing.assert_close(bench.drawn_from, torch.tensor(expected))


def test_packed_words_are_little_endian():
    assert pack([0, 31, 32], 33).tolist() == [1 - 2**31, 1]
    assert pack([5], 33).dtype == np.int32


def test_bad_words_of_one_token(harness, request_of, logits):
    request = request_of(
        SamplingParams(temperature=0), [1], bad_words_ids=((7,), (8,), (7,)), output=[7]
    )
    seen = _check(harness, request, logits)
    assert seen[7] == seen[8] == BANNED


@pytest.mark.parametrize(
    ("output", "banned"),
    [
        ([], False),
        ([5], False),
        ([5, 6], True),
        ([9, 9, 5, 6], True),
        ([5, 6, 9], False),
        ([6, 5], False),
    ],
)
def test_bad_words_of_several_tokens(harness, request_of, logits, output, banned):
    request = request_of(
        SamplingParams(temperature=0), [5, 6], list(output), bad_words_ids=((5, 6, 4), (1, 2))
    )
    assert bool(_check(harness, request, logits)[4] == BANNED) is banned


def test_a_word_begun_by_the_prompt_may_be_finished(harness, request_of, logits):
    words = ((5, 6, 4),)
    begun = request_of(SamplingParams(temperature=0), [5], output=[6], bad_words_ids=words)
    assert _check(harness, begun, logits)[4] != BANNED


def test_bad_words_that_share_their_last_token(harness, request_of, logits):
    words = ((5, 4), (6, 4), (1, 2, 3, 4), (3, 4), (9, 9, 9, 9, 9, 9, 9, 4))
    request = request_of(SamplingParams(temperature=0), [1], output=[2, 6], bad_words_ids=words)
    assert _check(harness, request, logits)[4] == BANNED


@pytest.mark.parametrize(("num_output", "banned"), [(0, True), (2, True), (3, False), (4, False)])
def test_stop_tokens_are_banned_until_min_tokens(harness, request_of, logits, num_output, banned):
    request = request_of(
        SamplingParams(temperature=0, min_tokens=3),
        [1, 2, 3],
        output=[4] * num_output,
        stop_token_ids=(11, 12, 12),
    )
    seen = _check(harness, request, logits)
    assert bool(seen[11] == BANNED) is bool(seen[12] == BANNED) is banned


def test_min_tokens_runs_out_in_the_middle_of_a_steady_batch(harness, request_of):
    bench = harness(V, 1)
    logits = torch.zeros(1, V)
    logits[0, 11] = 9.0
    logits[0, 3] = 1.0
    bench.start(
        0, request_of(SamplingParams(temperature=0, min_tokens=2), [1], stop_token_ids=(11,))
    )
    assert [int(bench.step(logits, [0]).token_ids) for _ in range(4)] == [3, 3, 11, 11]


def test_stop_tokens_outside_the_vocabulary_are_nobodys(harness, request_of):
    bench, logits = harness(V, 2), torch.randn(2, V)
    params = SamplingParams(temperature=0, min_tokens=2)
    for row in range(2):
        bench.start(row, request_of(params, [1], stop_token_ids=(V, V + 3), bad_words_ids=((V,),)))
    bench.step(logits, [0, 1])
    torch.testing.assert_close(bench.drawn_from, logits)


def test_logit_bias(harness, request_of, logits):
    bias = {0: 5.0, 12: -100.0, 36: 100.0}
    seen = _check(harness, request_of(SamplingParams(temperature=0, logit_bias=bias), [1]), logits)
    assert seen.argmax() == 36


def test_a_bias_does_not_lift_a_ban(harness, request_of, logits):
    request = request_of(
        SamplingParams(
            temperature=0,
            logit_bias={4: 100.0, 5: 100.0, 6: 100.0},
            allowed_token_ids=[1, 2, 4, 5],
            min_tokens=1,
        ),
        [1],
        stop_token_ids=(4,),
        bad_words_ids=((5,),),
    )
    seen = _check(harness, request, logits)
    assert torch.isfinite(seen).nonzero().flatten().tolist() == [1, 2]


def test_nothing_left_gives_no_token(harness, request_of, logits):
    bench = harness(V, 1)
    bench.start(0, request_of(SamplingParams(allowed_token_ids=[4]), [1], bad_words_ids=((4,),)))
    assert bench.step(logits, [0]).token_ids.tolist() == [-1]
