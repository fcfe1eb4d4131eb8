"""Logits processors: what they are given, what comes of it, and what a failing one costs."""

import functools

import pytest
import torch

from quire.core.sampling_params import SamplingParams

V = 20


def _greedy(*processors, **options):
    return SamplingParams(temperature=0, logits_processors=list(processors), **options)


def _force(token, output_ids, logits):
    forced = torch.full_like(logits, float("-inf"))
    forced[token] = 0.0
    return forced


def test_two_and_three_arguments(harness, request_of):
    seen = []

    def two(output_ids, logits):
        seen.append((list(output_ids), tuple(logits.shape)))
        return logits

    def three(prompt_ids, output_ids, logits):
        seen.append((list(prompt_ids), list(output_ids), tuple(logits.shape)))
        return logits

    bench, logits = harness(V, 1), torch.randn(1, V)
    bench.start(0, request_of(_greedy(two, three), [1, 2], [3]))
    token = int(bench.step(logits, [0]).token_ids)
    bench.step(logits, [0])
    assert token == logits.argmax()
    assert seen == [
        ([3], (V,)),
        ([1, 2], [3], (V,)),
        ([3, token], (V,)),
        ([1, 2], [3, token], (V,)),
    ]


def test_objects_partials_and_optional_arguments(harness, request_of):
    class Object:
        def __call__(self, output_ids, logits, scale=2.0):
            return logits * scale

    bench, logits = harness(V, 2), torch.randn(2, V)
    bench.start(0, request_of(_greedy(Object()), [1]))
    bench.start(1, request_of(_greedy(functools.partial(_force, 7)), [1]))
    output = bench.step(logits, [0, 1])
    torch.testing.assert_close(bench.drawn_from[0], logits[0] * 2)
    assert output.token_ids.tolist() == [int(logits[0].argmax()), 7]


def test_in_place_and_replaced_in_turn(harness, request_of):
    def add_in_place(output_ids, logits):
        logits[4] += 3.0
        return logits

    def double(output_ids, logits):
        return logits * 2

    bench, logits = harness(V, 3), torch.randn(3, V)
    bench.start(0, request_of(SamplingParams(temperature=0), [1]))
    bench.start(1, request_of(_greedy(add_in_place, double), [1]))
    bench.start(2, request_of(_greedy(double, add_in_place), [1]))
    bench.step(logits, [0, 1, 2])
    expected = logits.clone()
    expected[1, 4] += 3
    expected[1:] *= 2
    expected[2, 4] += 3
    torch.testing.assert_close(bench.drawn_from, expected)


def test_they_run_after_biases_and_before_penalties(harness, request_of):
    seen = []

    def look(output_ids, logits):
        seen.append(logits.clone())
        return logits + 1.0

    bench, logits = harness(V, 1), torch.randn(1, V)
    params = _greedy(look, logit_bias={2: 4.0}, allowed_token_ids=[1, 2, 3], presence_penalty=1.5)
    bench.start(0, request_of(params, [5], [2]))
    bench.step(logits, [0])
    expected = torch.full((V,), float("-inf"))
    expected[1:4] = logits[0, 1:4]
    expected[2] += 4.0
    torch.testing.assert_close(seen[0], expected)
    expected += 1.0
    expected[2] -= 1.5
    torch.testing.assert_close(bench.drawn_from[0], expected)


def _raises(output_ids, logits):
    raise KeyError("two\nlines")


def _wrong_shape(output_ids, logits):
    return logits[:3]


def _nothing(output_ids, logits):
    logits[:] = 0.0


@pytest.mark.parametrize(
    ("processor", "reason"),
    [
        (_raises, "logits processor _raises failed: KeyError: 'two\\nlines'"),
        (_wrong_shape, "must return logits of shape (20,), got (3,)"),
        (_nothing, "must return logits of shape (20,), got NoneType"),
    ],
)
def test_a_failing_one_costs_its_own_request_only(harness, request_of, processor, reason):
    bench, logits = harness(V, 3), torch.randn(3, V)
    bench.start(0, request_of(SamplingParams(temperature=0), [1]))
    bench.start(1, request_of(_greedy(processor, functools.partial(_force, 3)), [1]))
    bench.start(2, request_of(_greedy(functools.partial(_force, 5)), [1]))
    output = bench.step(logits, [0, 1, 2])
    assert output.token_ids.tolist() == [int(logits[0].argmax()), -1, 5]
    assert list(output.errors) == [1]
    assert reason in output.errors[1]
    assert "\n" not in output.errors[1]
