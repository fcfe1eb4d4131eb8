"""Batches: features mixed, requests alone and together, steps that upload nothing."""

import random

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from quire.core.sampling_params import SamplingParams
from quire.sampling.rows import Feature

V = 50


def _random_params(rng):
    def maybe(value, otherwise):
        return value if rng.random() < 0.4 else otherwise

    return SamplingParams(
        temperature=maybe(0.0, rng.uniform(0.3, 1.5)),
        top_k=maybe(rng.randint(1, V + 5), 0),
        top_p=maybe(rng.uniform(0.2, 1.0), 1.0),
        min_p=maybe(rng.uniform(0.0, 0.3), 0.0),
        repetition_penalty=maybe(rng.uniform(0.5, 2.0), 1.0),
        frequency_penalty=maybe(rng.uniform(-2, 2), 0.0),
        presence_penalty=maybe(rng.uniform(-2, 2), 0.0),
        logit_bias=maybe({rng.randrange(V): rng.uniform(-9, 9) for _ in range(4)}, None),
        allowed_token_ids=maybe(rng.sample(range(V), 20), None),
        min_tokens=maybe(rng.randint(1, 5), 0),
        logprobs=maybe(rng.choice([0, 1, 3, -1]), None),
    )


def _random_request(rng, request_of):
    def tokens(low, high):
        return [rng.randrange(V) for _ in range(rng.randint(low, high))]

    return request_of(
        _random_params(rng),
        tokens(1, 12),
        tokens(0, 6),
        stop_token_ids=tuple(tokens(0, 3)),
        bad_words_ids=tuple(tuple(tokens(1, 2)) for _ in range(rng.choice([0, 0, 3]))),
        seed=rng.getrandbits(64),
    )


@pytest.mark.parametrize("seed", range(8))
def test_random_arrivals_and_departures(harness, request_of, seed):
    """Whatever comes and goes, each line is what the oracle says of that request alone."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    bench = harness(V, 12)
    for _ in range(15):
        for row in range(12):
            chance = rng.random()
            if row in bench.requests and (chance < 0.15 or len(bench.requests[row].output) > 40):
                bench.release(row)
            if row not in bench.requests and chance < 0.4:
                bench.start(row, _random_request(rng, request_of))
        rows = [row for row in bench.requests if rng.random() < 0.9]
        rng.shuffle(rows)
        logits = torch.randn(len(rows), V) * 2
        lines = logits.tolist()
        requests = [bench.requests[row] for row in rows]
        expected = [r.expected_logits(line) for r, line in zip(requests, lines)]
        tokens = [r.expected_token(line) for r, line in zip(requests, lines)]
        output = bench.step(logits, rows)
        assert output.token_ids.tolist() == tokens
        if rows:
            torch.testing.assert_close(bench.drawn_from, torch.tensor(expected))
        asked = [i for i, r in enumerate(requests) if r.params.logprobs is not None]
        assert output.logprob_lines == asked
        assert (output.logprobs is None) == (not asked)


def test_seeded_requests_alone_and_in_a_batch_of_64(harness, request_of):
    rng = random.Random(0)
    requests = [_random_request(rng, request_of) for _ in range(64)]
    logits = torch.randn(6, 64, V)  # by step, then request

    def fresh(request):
        return request_of(
            request.params,
            request.prompt,
            list(request.output),
            request.stop_token_ids,
            request.bad_words_ids,
            request.seed,
        )

    together = harness(V, 64)
    for row, request in enumerate(requests):
        together.start(row, fresh(request))
    batch_tokens = torch.stack(
        [together.step(logits[step], list(range(64))).token_ids for step in range(6)]
    )
    alone = harness(V, 1)
    for i, request in enumerate(requests):
        alone.start(0, fresh(request))
        tokens = torch.cat(
            [alone.step(logits[step, i : i + 1], [0]).token_ids for step in range(6)]
        )
        assert tokens.tolist() == batch_tokens[:, i].tolist()


def test_a_resumed_request_continues_as_it_would_have(harness, request_of):
    rng = random.Random(3)
    logits = torch.randn(10, 1, V)
    for _ in range(10):
        request = _random_request(rng, request_of)
        copies = [
            request_of(
                request.params,
                request.prompt,
                list(request.output),
                request.stop_token_ids,
                request.bad_words_ids,
                request.seed,
            )
            for _ in range(2)
        ]
        bench = harness(V, 4)
        bench.start(0, copies[0])
        bench.start(1, copies[1])
        for step in range(10):
            bench.step(logits[step], [0])
            bench.step(logits[step], [1 if step < 5 else 3])
            if step == 4:
                bench.release(1)
                bench.start(3, copies[1])
        assert copies[0].output == copies[1].output


def test_a_steady_batch_uploads_nothing(harness, request_of, monkeypatch):
    rng = random.Random(1)
    bench, logits = harness(V, 16), torch.randn(16, V)
    rows = list(range(16))
    for row in rows:
        bench.start(row, _random_request(rng, request_of))
    bench.step(logits, rows)
    first = bench.draw_arguments[:5]
    for module in ("batch", "rows", "bias", "token_mask"):
        monkeypatch.setattr(f"quire.sampling.{module}.upload", None)  # any call would fail
    for _ in range(3):
        bench.step(logits, rows)
        assert all(a is b for a, b in zip(first, bench.draw_arguments[:5]))


def test_a_row_taken_again_forgets_its_predecessor(harness, request_of):
    bench, logits = harness(V, 1), torch.randn(1, V)
    bench.start(
        0,
        request_of(
            SamplingParams(allowed_token_ids=[1], logit_bias={1: 5.0}, logprobs=2, top_k=3),
            [1],
            bad_words_ids=((1, 2),),
        ),
    )
    bench.step(logits, [0])
    bench.release(0)
    bench.start(0, request_of(SamplingParams(temperature=0), [1]))
    output = bench.step(logits, [0])
    torch.testing.assert_close(bench.drawn_from, logits)
    assert output.token_ids.item() == logits.argmax()
    assert output.logprobs is None


def test_parameters_reach_the_draw_in_their_dtypes(harness, request_of):
    bench = harness(V, 3)
    params = SamplingParams(temperature=0.7, top_k=5, top_p=0.9, min_p=0.1)
    bench.start(1, request_of(params, [1, 2, 3], seed=2**64 - 2))
    bench.start(2, request_of(SamplingParams(temperature=0, top_k=5, top_p=0.9, min_p=0.1), [1]))
    bench.step(torch.randn(2, V), [1, 2])
    temperature, top_k, top_p, min_p, seed, positions = bench.draw_arguments
    assert temperature.tolist() == pytest.approx([0.7, 0.0])
    # A greedy row's filters are off: they could not change its choice.
    assert (top_k.tolist(), top_k.dtype) == ([5, 0], torch.int32)
    assert top_p.tolist() == pytest.approx([0.9, 1.0])
    assert min_p.tolist() == pytest.approx([0.1, 0.0])
    assert (seed.tolist(), seed.dtype) == ([-2, 0], torch.int64)
    assert positions.tolist() == [3, 1]
    assert {t.dtype for t in (temperature, top_p, min_p)} == {torch.float32}


def test_greedy_ignores_what_only_shapes_the_draw(harness, request_of):
    logits = torch.randn(4, V)
    bench = harness(V, 4)
    for row, filters in enumerate([{}, {"top_k": 2}, {"top_p": 0.1}, {"min_p": 0.9}]):
        bench.start(row, request_of(SamplingParams(temperature=0, **filters), [1], seed=row))
    output = bench.step(logits, [0, 1, 2, 3])
    assert output.token_ids.tolist() == logits.argmax(-1).tolist()


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_line_that_is_not_a_number_leaves_the_others_alone(
    harness, request_of, poison, temperature
):
    params = SamplingParams(
        temperature=temperature, repetition_penalty=1.2, frequency_penalty=0.5, logprobs=3
    )
    logits = torch.randn(5, V)
    outputs = []
    for broken in (False, True):
        bench = harness(V, 5)
        for row in range(5):
            bench.start(row, request_of(params, [1, 2], [3], seed=row))
        step_logits = logits.clone()
        if broken:
            step_logits[2, 7] = poison
        outputs.append(bench.step(step_logits, list(range(5))))
    healthy, poisoned = (output.token_ids.tolist() for output in outputs)
    assert poisoned[2] == -1
    assert [t for i, t in enumerate(poisoned) if i != 2] == [
        t for i, t in enumerate(healthy) if i != 2
    ]
    healthy_logprobs, poisoned_logprobs = (output.logprobs.to_host() for output in outputs)
    assert poisoned_logprobs[3] == healthy_logprobs[3]


def test_logits_cut_from_a_wider_tensor(harness, request_of):
    bench, wide = harness(V, 2), torch.randn(2, V + 6)
    for row in range(2):
        params = SamplingParams(temperature=0, logit_bias={row: 50.0}, presence_penalty=1.0)
        bench.start(row, request_of(params, [1], [2]))
    output = bench.sampler.sample(
        wide[:, :V], np.array([0, 1], dtype=np.int32), torch.tensor([2, 2]), bench.tokens
    )
    assert output.token_ids.tolist() == [0, 1]


def test_no_lines(harness):
    bench = harness(V, 1)
    output = bench.step(torch.empty(0, V), [])
    assert (output.token_ids.shape, output.token_ids.dtype) == ((0,), torch.int64)
    assert output.logprobs is None


class _ForbidWaiting(TorchDispatchMode):
    """Fails on operations whose result's size or value the host must know: on a GPU, a wait."""

    WAITS = frozenset(
        {
            "_local_scalar_dense",
            "nonzero",
            "masked_select",
            "unique_dim",
            "_unique2",
            "equal",
            "is_nonzero",
        }
    )

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in self.WAITS, f"{name} waits for the device"
        if name in ("index", "index_put", "index_put_"):
            dtypes = [index.dtype for index in args[1] if index is not None]
            assert torch.bool not in dtypes, f"{name} by a mask waits for the device"
        return func(*args, **(kwargs or {}))


def test_the_device_is_never_waited_for(harness, request_of):
    """Everything but the draw, whose implementation on each device is tested with the kernels."""
    rng = random.Random(2)
    bench = harness(V, 32)
    for row in range(32):
        bench.start(row, _random_request(rng, request_of))
    features = {bit: (bench.sampler.rows.features & bit).any() for bit in Feature if bit.value}
    features.pop(Feature.PROCESSORS)
    assert all(features.values()), features
    bench.sampler._ops_sample = lambda logits, *_: logits.argmax(-1)
    arguments = (
        torch.randn(32, V),
        np.arange(32, dtype=np.int32),
        torch.full((32,), 8),
        bench.tokens,
    )
    with _ForbidWaiting():
        bench.sampler.sample(*arguments)
        bench.sampler.prompt_logprobs(arguments[0], torch.zeros(32, dtype=torch.int64), 3)
