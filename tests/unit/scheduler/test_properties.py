"""Whatever arrives, in whatever memory: every request gets the tokens the model gives it alone."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quire.core.pooling_params import PoolingParams
from quire.scheduler.sequence import sequence_seed

WINDOWS = [(None,), (None, 3), (None, 8, 20), (5,), (1,), (6, 13)]


@st.composite
def machines(draw):
    """Keyword arguments of a `Bench`."""
    page_size = draw(st.sampled_from([1, 2, 4, 8]))
    max_model_len = draw(st.integers(12, 60))
    chunked = draw(st.booleans())
    windows = draw(st.sampled_from(WINDOWS))
    # From a cache that can hold one short sequence to one that never runs out.
    num_pages = [draw(st.integers(3, 40) | st.integers(40, 120)) for _ in windows]
    return {
        "windows": windows,
        "num_pages": num_pages,
        "page_size": page_size,
        "max_num_seqs": draw(st.integers(1, 6)),
        "budget": draw(st.integers(1, 24)) if chunked else max_model_len,
        "max_model_len": max_model_len,
        "policy": draw(st.sampled_from(["fcfs", "priority"])),
        "chunked_prefill": chunked,
        "caching": draw(st.booleans()),
        "depth": draw(st.integers(0, 2)),
    }


@st.composite
def requests(draw, number):
    """Keyword arguments of `Bench.add`, the step it arrives at, and an abort, maybe."""
    # Prompts from few beginnings and few tokens, so that many share pages.
    start = draw(st.sampled_from([[], [1] * 9, [1] * 9 + [2] * 8, [3, 4] * 10]))
    prompt = start + draw(st.lists(st.integers(0, 6), min_size=0 if start else 1, max_size=16))
    n = draw(st.sampled_from([1, 1, 1, 2, 4]))
    max_tokens = draw(st.integers(1, 24))
    min_tokens = draw(st.sampled_from([0, 0, 3]))
    delivered = draw(st.sampled_from([False, False, True]))
    options = {
        "request_id": f"r{number}",
        "prompt": prompt,
        "max_tokens": max_tokens,
        "min_tokens": min(min_tokens, max_tokens),
        "n": n,
        "priority": draw(st.integers(0, 2)),
        "seed": draw(st.integers(0, 1)),
        "cache_salt": draw(st.sampled_from(["", "", "salt"])),
        "stop_token_ids": draw(st.sampled_from([[], [5], [2, 5]])),
        "prompt_logprobs": draw(st.sampled_from([None, None, 0])),
        "logprobs": draw(st.sampled_from([None, None, 1])),
        "logits_processors": draw(st.sampled_from([None, None, [max]])),
    }
    pooling = draw(st.sampled_from([None, None, None, "last", "mean", "cls"]))
    if pooling is not None:
        delivered = False
        options |= {"n": 1, "max_tokens": 0, "pooling": PoolingParams(pooling=pooling)}
        options |= {"min_tokens": 0, "prompt_logprobs": None, "logits_processors": None}
    if delivered:
        # Tokens that end nothing: 0 is never a stop token here.
        options["delivered"] = [[0] * draw(st.integers(0, max_tokens - 1)) for _ in range(n)]
    arrives = draw(st.integers(0, 12))
    aborted = draw(st.none() | st.none() | st.integers(1, 15))
    indices = draw(st.sampled_from([(), (0,)]))
    return options, arrives, (arrives + aborted, indices) if aborted else None


@st.composite
def traffic(draw):
    return [draw(requests(i)) for i in range(draw(st.integers(1, 7)))]


def check_error(engine, message, error):
    """Only what is too long for the machine ends with an error."""
    num_prompt = len(message.prompt_token_ids)
    if message.pooling is not None:
        chunk = min(engine.runner.budget, engine.max_model_len)
        capacity = engine.cache.max_tokens_of_one_sequence(chunk)
        assert num_prompt > min(engine.max_model_len, capacity)
        assert "does not fit max_model_len" in error
    elif num_prompt >= engine.max_model_len:
        assert "max_model_len" in error
    else:
        chunk = min(engine.runner.budget, engine.max_model_len)
        capacity = engine.cache.max_tokens_of_one_sequence(chunk)
        assert min(num_prompt + message.max_tokens, engine.max_model_len) > capacity
        assert "not fit the KV cache" in error


def check_outcome(engine, options):
    """Each sequence ended, as it would have alone, or was refused or aborted with a reason."""
    message = engine.messages[options["request_id"]]
    for index in range(options["n"]):
        key = (message.request_id, index)
        seed = sequence_seed(message.seed, index)
        expected, reason = engine.alone(message.request_id, index, seed)
        got, ended = engine.output[key], engine.finished[key]
        if ended in ("abort", "error"):
            assert got == expected[: len(got)]
            if ended == "error":
                check_error(engine, message, engine.deltas[key][-1].error)
            continue
        assert (got, ended) == (expected, reason)
        if message.pooling is not None:
            check_vector(message, engine.deltas[key])
        if not got:
            continue  # it was complete when it was resumed
        first = engine.deltas[key][0]
        assert first.first_scheduled_time is not None
        assert 0 <= first.num_cached_tokens < len(message.prompt_token_ids) + 24
        delivered = message.delivered[index] if message.delivered else []
        if options["prompt_logprobs"] is not None and index == 0 and not delivered:
            successors = [entry.token_ids[0] for entry in first.prompt_logprobs]
            assert successors == message.prompt_token_ids[1:]
        else:
            assert first.prompt_logprobs is None
        if options["logprobs"] is not None:
            chosen = [entry.token_ids[0] for d in engine.deltas[key] for entry in d.logprobs]
            assert chosen == got


def check_vector(message, deltas):
    """One delta, whose vector was made of all tokens that its pooling reads."""
    (delta,) = deltas
    digests: list[int] = []
    for token in message.prompt_token_ids:
        digests.append(hash((digests[-1] if digests else 0, token)))
    whole = message.pooling.needs_every_token
    assert delta.embedding == (digests if whole else digests[-1:])
    assert delta.first_scheduled_time is not None
    assert delta.num_cached_tokens == 0 or not whole


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(machine=machines(), load=traffic())
def test_everyone_gets_the_tokens_it_gets_alone(bench, machine, load):
    engine = bench(**machine)
    arrivals = sorted(load, key=lambda item: item[1])
    aborts = sorted((item[2][0], item[0]["request_id"], item[2][1]) for item in load if item[2])
    limits = sum(o["n"] * (len(o["prompt"]) + o["max_tokens"] + 4) for o, _, _ in load)
    turn = 0
    while arrivals or aborts or engine.scheduler.has_work():
        while arrivals and arrivals[0][1] <= turn:
            engine.add(**arrivals.pop(0)[0])
            engine.scheduler.check_integrity()
        while aborts and aborts[0][0] <= turn:
            _, request_id, indices = aborts.pop(0)
            engine.abort(request_id, *indices)
            engine.scheduler.check_integrity()
        engine.step()
        turn += 1
        assert turn <= 3 * limits + 40, "livelock"
    for options, _, _ in load:
        check_outcome(engine, options)
    assert engine.cache.num_free == tuple(machine["num_pages"])
    assert engine.scheduler.stats().num_running == engine.scheduler.stats().num_waiting == 0
