"""The tracker turns prompts into messages and deltas into outputs, whatever the engine does."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import quire.boxed
from quire.core.errors import NotYetSupportedError, PromptTooLongError, RequestError
from quire.core.messages import AbortRequests, AddRequest, ModelInfo, SequenceDelta
from quire.core.outputs import CompletionOutput
from quire.core.plan import TokenLogprobs
from quire.core.sampling_params import SamplingParams
from quire.engine.frontend import RequestTracker
from quire.engine.frontend_prompt import Prompt
from quire.text.load import load_tokenizer
from quire.text.tokenizer import Tokenizer

MAX_LEN = 64


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer(Path(quire.boxed.__path__[0]))


def model_info(tokenizer: Tokenizer, **changes: Any) -> ModelInfo:
    facts: dict[str, Any] = {
        "model": "boxed",
        "architecture": "X",
        "vocab_size": len(tokenizer),
        "max_model_len": MAX_LEN,
        "dtype": "float32",
        "device": "cpu",
        "eos_token_ids": (0,),
        "generation_defaults": {"temperature": 0.5, "max_tokens": 7},
        "page_size": 16,
        "num_pages": (8,),
        "max_num_seqs": 4,
        "max_num_batched_tokens": 64,
        "enable_prefix_caching": True,
        "seed": 3,
    }
    return ModelInfo(**(facts | changes))


@pytest.fixture
def tracker(tokenizer: Tokenizer) -> RequestTracker:
    return RequestTracker(tokenizer, model_info(tokenizer))


def add(
    tracker: RequestTracker, prompt: Any = "Hello", request_id: str = "r", **params: Any
) -> AddRequest:
    request = tracker.prepare(prompt, SamplingParams(**params), request_id=request_id)
    return tracker.start(request)


def deltas(
    ids: Sequence[int], reason: str | None = "length", index: int = 0, request_id: str = "r"
) -> list[SequenceDelta]:
    """One delta a token, the reason on the last."""
    return [
        SequenceDelta(request_id, index, [i], reason if at == len(ids) else None)  # type: ignore[arg-type]
        for at, i in enumerate(ids, 1)
    ]


def feed(
    tracker: RequestTracker, items: list[SequenceDelta]
) -> tuple[str, CompletionOutput, list[AbortRequests]]:
    """(streamed text, final sequence, aborts)."""
    text, aborts, last = "", [], None
    for item in items:
        processed = tracker.process([item])
        aborts += processed.aborts
        for last in processed.updates:
            text += last.text
    assert last is not None
    return text, last.request.output().outputs[last.sequence.index], aborts


# --- prompts ---


def test_forms_of_a_prompt(tracker: RequestTracker, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("Hello there")
    for number, prompt in enumerate(
        (
            "Hello there",
            ids,
            tuple(ids),
            {"prompt": "Hello there"},
            {"prompt_token_ids": ids},
            {"prompt_token_ids": ids, "prompt": "Hello there", "cache_salt": "s"},
            Prompt("Hello there", None, add_special_tokens=False),
        )
    ):
        message = add(tracker, prompt, str(number))
        assert message.prompt_token_ids == ids
    assert tracker.unfinished()[5].message.cache_salt == "s"
    assert tracker.unfinished()[5].prompt_text == "Hello there"


@pytest.mark.parametrize(
    ("prompt", "match"),
    [
        ("", "the prompt is empty"),
        ([], "the prompt is empty"),
        (5, "a prompt must be a text, a list of token ids, or a dict.*got int"),
        ([[1]], "a prompt must be"),
        ({"promt": "x"}, "a prompt has no 'promt'; did you mean 'prompt'"),
        ({}, "needs 'prompt' or 'prompt_token_ids'"),
        ({"prompt": 3}, "'prompt' must be a text, got int"),
        ({"prompt_token_ids": "x"}, "must be a list of integers, got str"),
        ([1, 2, 99999], r"prompt_token_ids\[2\] is 99999, outside the vocabulary \[0, 6144\)"),
        ([1, -1], r"prompt_token_ids\[1\] is -1, outside"),
        ([1, 2.5], r"prompt_token_ids\[1\] must be an integer, got float"),
        ([1, True], r"prompt_token_ids\[1\] must be an integer, got bool"),
    ],
)
def test_bad_prompts(tracker: RequestTracker, prompt: Any, match: str) -> None:
    with pytest.raises(RequestError, match=match):
        add(tracker, prompt)
    assert tracker.num_unfinished == 0


@pytest.mark.parametrize("given", [[3, 0, 6143], (3, 0, 6143), range(3)])
def test_ids_become_a_list_of_their_own(tracker: RequestTracker, given: Any) -> None:
    ids = add(tracker, given).prompt_token_ids
    assert type(ids) is list
    assert ids == list(given)
    assert ids is not given


def test_multi_modal_is_refused(tracker: RequestTracker) -> None:
    with pytest.raises(NotYetSupportedError, match="multi_modal_data"):
        add(tracker, {"prompt": "x", "multi_modal_data": {"image": 1}})


def test_length(tracker: RequestTracker) -> None:
    assert add(tracker, [5] * (MAX_LEN - 1), "fits").max_tokens == 1
    with pytest.raises(PromptTooLongError, match=r"length 64.*maximum model length of 64"):
        add(tracker, [5] * MAX_LEN)
    with pytest.raises(PromptTooLongError, match=r"900000 characters, at least \d+ tokens"):
        add(tracker, "abcdefghi" * 100_000)


def test_truncation(tracker: RequestTracker) -> None:
    ids = list(range(100, 200))
    assert add(tracker, ids, "a", truncate_prompt_tokens=5).prompt_token_ids == ids[-5:]
    assert add(tracker, ids, "b", truncate_prompt_tokens=-1).prompt_token_ids == ids[1 - MAX_LEN :]
    with pytest.raises(RequestError, match="at most max_model_len=64, got 65"):
        add(tracker, ids, "c", truncate_prompt_tokens=65)
    with pytest.raises(PromptTooLongError):
        add(tracker, ids, "d", truncate_prompt_tokens=64)


def test_text_from_another_models_tokenizer(tokenizer: Tokenizer) -> None:
    tracker = RequestTracker(tokenizer, model_info(tokenizer, vocab_size=300))
    with pytest.raises(RequestError, match=r"outside the vocabulary \[0, 300\)"):
        add(tracker, "What is the capital of South Korea?")


# --- parameters ---


def test_resolution(tracker: RequestTracker, tokenizer: Tokenizer) -> None:
    message = add(tracker, [5] * 60, "a", max_tokens=None)
    assert message.max_tokens == MAX_LEN - 60
    assert add(tracker, "Hi", "b", max_tokens=1000).max_tokens == MAX_LEN - len(
        tokenizer.encode("Hi")
    )
    eos = tokenizer.eos_token_id
    assert set(message.stop_token_ids) == {0, eos}
    message = add(tracker, "Hi", "c", ignore_eos=True, stop_token_ids=[9])
    assert message.stop_token_ids == [9]
    assert add(tracker, "Hi", "d", stop_token_ids=[9, 0]).stop_token_ids == [0, eos, 9]


def test_defaults_come_from_the_model(tracker: RequestTracker) -> None:
    request = tracker.prepare("Hi", None, request_id="r")
    assert request.message.params.temperature == 0.5
    assert request.message.max_tokens == 7


def test_params_are_copied_and_checked_again(tracker: RequestTracker) -> None:
    params = SamplingParams(logit_bias={3: 1.0})
    message = tracker.prepare("Hi", params, request_id="r").message
    assert message.params is not params
    params.temperature = -1
    with pytest.raises(RequestError, match="temperature"):
        tracker.prepare("Hi", params, request_id="s")


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"logit_bias": {6144: 1.0}}, "logit_bias holds token id 6144"),
        ({"allowed_token_ids": [-1]}, "allowed_token_ids"),
        ({"stop_token_ids": [6144]}, "stop_token_ids"),
        ({"logprobs": 21}, r"logprobs must be in \[0, 20\]"),
        ({"prompt_logprobs": -1}, "prompt_logprobs"),
    ],
)
def test_bad_params(tracker: RequestTracker, params: dict[str, Any], match: str) -> None:
    with pytest.raises(RequestError, match=match):
        add(tracker, "Hi", **params)


def test_bad_words(tracker: RequestTracker, tokenizer: Tokenizer) -> None:
    words = add(tracker, "Hi", bad_words=["Seoul"]).bad_words_ids
    assert words == [
        tokenizer.encode("Seoul", add_special_tokens=False),
        tokenizer.encode(" Seoul", add_special_tokens=False),
    ]


def test_seeds(tokenizer: Tokenizer) -> None:
    def seeds(engine_seed: int, **params: Any) -> list[int]:
        tracker = RequestTracker(tokenizer, model_info(tokenizer, seed=engine_seed))
        return [add(tracker, "Hi", str(i), **params).seed for i in range(50)]

    assert seeds(1, seed=7) == [7] * 50
    assert seeds(1) == seeds(1)
    assert len({*seeds(1), *seeds(2)}) == 100
    assert all(-(2**63) <= seed < 2**63 for seed in seeds(1))


def test_ids_in_use(tracker: RequestTracker) -> None:
    add(tracker)
    with pytest.raises(RequestError, match="'r' is in use"):
        add(tracker)


# --- outputs ---

ANSWER = "The capital is Seoul. 서울입니다! 🙂\nNext"


def test_text_streams_and_joins(tracker: RequestTracker, tokenizer: Tokenizer) -> None:
    add(tracker)
    ids = tokenizer.encode(ANSWER)
    text, output, aborts = feed(tracker, deltas(ids))
    assert text == output.text == ANSWER
    assert (output.token_ids, output.finish_reason, aborts) == (ids, "length", [])
    assert tracker.num_unfinished == 0


def test_a_stop_token_is_not_shown(tracker: RequestTracker, tokenizer: Tokenizer) -> None:
    ids = [*tokenizer.encode("Seoul"), 50]
    for number, (params, stop_id, expected) in enumerate(
        (
            ({}, None, "Seoul"),
            ({"stop_token_ids": [50]}, 50, "Seoul"),
            ({"include_stop_str_in_output": True}, 50, "Seoul" + tokenizer.token_text(50)),
        )
    ):
        add(tracker, "Hi", str(number), **params)
        items = deltas(ids, "stop", request_id=str(number))
        items[-1].stop_token_id = stop_id
        text, output, _ = feed(tracker, items)
        assert text == output.text == expected
        assert output.token_ids == ids
        assert (output.finish_reason, output.stop_reason) == ("stop", stop_id)


@pytest.mark.parametrize("include", [False, True])
def test_stop_strings(tracker: RequestTracker, tokenizer: Tokenizer, include: bool) -> None:
    add(tracker, stop=["입니", "zzz"], include_stop_str_in_output=include)
    ids = tokenizer.encode(ANSWER)
    items = [*deltas(ids, None), *deltas([5], "abort")]
    text, output, aborts = feed(tracker, items)
    assert text == output.text == ANSWER[: ANSWER.index("입니") + 2 * include]
    assert (output.finish_reason, output.stop_reason) == ("stop", "입니")
    assert aborts == [AbortRequests("r", [0])]
    assert tokenizer.decode(output.token_ids).endswith(("입니", "입니다", "입니다!"))
    assert tracker.num_unfinished == 0


def test_several_tokens_in_a_delta(tracker: RequestTracker, tokenizer: Tokenizer) -> None:
    """Tokens after the one that completes the stop string are not the request's."""
    add(tracker, stop=["Seoul"])
    ids = tokenizer.encode(ANSWER)
    text, output, aborts = feed(tracker, [SequenceDelta("r", 0, ids, "length")])
    assert text == output.text == "The capital is "
    assert len(output.token_ids) < len(ids)
    assert output.stop_reason == "Seoul"
    assert aborts == []  # the engine had ended it by itself


def test_held_back_text_comes_at_the_end(tracker: RequestTracker, tokenizer: Tokenizer) -> None:
    add(tracker, stop=["Seoul!"])
    text, output, _ = feed(tracker, deltas(tokenizer.encode("is Seoul"), "length"))
    assert text == output.text == "is Seoul"
    assert output.finish_reason == "length"


def test_half_a_character_at_the_end(tracker: RequestTracker, tokenizer: Tokenizer) -> None:
    add(tracker)
    byte = next(i for i in range(len(tokenizer)) if (tokenizer.pieces(False) or {})[i] == b"\xec")
    text, output, _ = feed(tracker, deltas([byte]))
    assert text == output.text == "\ufffd"


def test_min_tokens_hides_stop_strings(tracker: RequestTracker, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a b a b a b")
    add(tracker, stop=["b"], min_tokens=4)
    text, output, _ = feed(tracker, deltas(ids, None))
    assert text == output.text == "a b a b a "
    assert len(output.token_ids) > 4


def test_without_detokenizing(tokenizer: Tokenizer) -> None:
    tracker = RequestTracker(tokenizer, model_info(tokenizer))
    add(tracker, detokenize=False)
    assert feed(tracker, deltas([5, 6]))[1].text == ""
    tracker = RequestTracker(None, model_info(tokenizer))
    add(tracker, [1, 2])
    assert feed(tracker, deltas([5, 6]))[1].token_ids == [5, 6]
    with pytest.raises(RequestError, match="skip_tokenizer_init"):
        add(tracker, "text")
    for params in ({"stop": "x"}, {"bad_words": ["x"]}):
        with pytest.raises(RequestError, match="skip_tokenizer_init"):
            add(tracker, [1], **params)


def test_sequences_of_one_request(tracker: RequestTracker, tokenizer: Tokenizer) -> None:
    add(tracker, n=3, temperature=1.0, stop=["two"])
    texts = ["one", "two", "three"]
    columns = [deltas(tokenizer.encode(text), "length", index) for index, text in enumerate(texts)]
    last = None
    for row in itertools.zip_longest(*columns):
        for update in tracker.process([d for d in row if d is not None]).updates:
            last = update
    assert last is not None
    output = last.request.output()
    assert [o.text for o in output.outputs] == ["one", "", "three"]
    assert [o.finish_reason for o in output.outputs] == ["length", "stop", "length"]
    assert output.finished


def test_logprobs(tracker: RequestTracker) -> None:
    add(tracker, [5, 6], logprobs=2, prompt_logprobs=1)
    first = SequenceDelta("r", 0, [7])
    first.prompt_logprobs = [TokenLogprobs([6, 9], [-3.0, -0.1], 4)]
    first.logprobs = [TokenLogprobs([7, 7, 8], [-0.5, -0.5, -1.0], 1)]
    first.num_cached_tokens, first.first_scheduled_time = 1, 12.5
    second = SequenceDelta("r", 0, [9], "length")
    second.logprobs = [TokenLogprobs([9, 7, 8], [-4.0, -0.25, -1.0], 17)]
    tracker.process([first])
    update = tracker.process([second]).updates[0]
    output = update.request.output()
    sequence = output.outputs[0]
    assert sequence.cumulative_logprob == -4.5
    assert sequence.logprobs is not None
    assert [list(p) for p in sequence.logprobs] == [[7, 8], [9, 7, 8]]
    assert [p.rank for p in sequence.logprobs[1].values()] == [17, 1, 2]
    assert sequence.logprobs[0][7].decoded_token is not None
    assert output.prompt_logprobs is not None
    assert output.prompt_logprobs[0] is None
    assert {t: p.rank for t, p in (output.prompt_logprobs[1] or {}).items()} == {6: 4, 9: 1}
    assert output.num_cached_tokens == 1
    assert output.metrics is not None
    assert output.metrics.first_scheduled_time == 12.5
    assert output.metrics.first_token_time is not None
    assert output.metrics.finished_time is not None


def test_an_error_is_told(tracker: RequestTracker) -> None:
    add(tracker)
    _, output, _ = feed(tracker, [SequenceDelta("r", 0, [], "error", error="logits are NaN")])
    assert (output.finish_reason, output.error) == ("error", "logits are NaN")


def test_abort(tracker: RequestTracker, tokenizer: Tokenizer) -> None:
    add(tracker)
    request = tracker.unfinished()[0]
    tracker.process(deltas(tokenizer.encode("Seoul"), None))
    assert tracker.abort("r") == AbortRequests("r")
    assert tracker.abort("r") is None
    assert request.output().outputs[0].finish_reason == "abort"
    assert request.output().finished
    assert tracker.process(deltas([5], "abort")).updates == []


def test_resume(tracker: RequestTracker, tokenizer: Tokenizer) -> None:
    """What a new engine is told: the same message, with what the client already has."""
    ids = tokenizer.encode("one two")
    sent = add(tracker, n=2, temperature=1.0, stop=["two"])
    tracker.process([SequenceDelta("r", 0, ids[:1])])
    tracker.process([SequenceDelta("r", 1, ids)])
    message, abort = tracker.resume()
    assert isinstance(message, AddRequest)
    assert message.seed == sent.seed
    assert message.delivered == [ids[:1], ids]
    assert abort == AbortRequests("r", [1])
    _, output, _ = feed(tracker, deltas(tokenizer.encode(" more"), "length"))
    assert output.text == "one more"
