"""The offline API on the boxed model: every form of input, every way it can be wrong."""

import gc
import os
import signal
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from quire import LLM, BeamSearchParams, RequestOutput, SamplingParams
from quire.core.errors import (
    ConfigError,
    EngineDeadError,
    ModelNotFoundError,
    NotYetSupportedError,
    PromptTooLongError,
    RequestError,
)

MAX_LEN = 256
GREEDY = SamplingParams(temperature=0.0, max_tokens=24)
SEOUL = [{"role": "user", "content": "What is the capital of South Korea?"}]
SEOUL_KO = [{"role": "user", "content": "대한민국의 수도는?"}]
OPTIONS: dict[str, Any] = {"max_model_len": MAX_LEN, "max_num_seqs": 16, "dtype": "float32"}


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with LLM(**OPTIONS, kv_cache_memory_bytes=32 << 20) as llm:
        yield llm


def texts(outputs: list[RequestOutput]) -> list[str]:
    return [output.outputs[0].text for output in outputs]


def ids(outputs: list[RequestOutput]) -> list[list[int]]:
    return [output.outputs[0].token_ids for output in outputs]


# --- chat and generate ---


def test_chat(llm: LLM) -> None:
    output = llm.chat(SEOUL, GREEDY)[0]
    assert "Seoul" in output.outputs[0].text
    assert output.outputs[0].finish_reason == "stop"
    assert output.outputs[0].stop_reason is None
    assert output.prompt is not None
    assert output.prompt.endswith("<|im_start|>assistant\n")
    assert output.finished
    assert output.metrics is not None
    assert output.metrics.first_token_time is not None
    assert output.prompt_token_ids == llm.get_tokenizer().encode(output.prompt)


def test_several_conversations(llm: LLM) -> None:
    first, second = texts(llm.chat([SEOUL, SEOUL_KO], GREEDY))
    assert "Seoul" in first
    assert "서울" in second


def test_chat_is_the_template_and_generate(llm: LLM) -> None:
    prompt = llm.get_tokenizer().apply_chat_template(
        SEOUL, tokenize=False, add_generation_prompt=True
    )
    assert ids(llm.generate(prompt, GREEDY)) == ids(llm.chat(SEOUL, GREEDY))
    mine = "{{ messages[0].content }}"
    output = llm.chat(SEOUL, GREEDY, chat_template=mine)[0]
    assert output.prompt == SEOUL[0]["content"]


def test_continuing_a_message(llm: LLM) -> None:
    begun = [*SEOUL, {"role": "assistant", "content": "The capital of South Korea is"}]
    options: dict[str, Any] = {"continue_final_message": True, "add_generation_prompt": False}
    output = llm.chat(begun, GREEDY, **options)[0]
    assert output.prompt is not None
    assert output.prompt.endswith("The capital of South Korea is")
    assert "Seoul" in output.outputs[0].text
    with pytest.raises(RequestError, match="exclude each other"):
        llm.chat(begun, GREEDY, continue_final_message=True)


def test_tools_reach_the_template(llm: LLM) -> None:
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": {}}}
    prompt = llm.chat(SEOUL, GREEDY, tools=[tool])[0].prompt
    assert prompt is not None
    assert '"get_weather"' in prompt


def test_forms_of_prompts(llm: LLM) -> None:
    text = "The capital of South Korea is"
    token_ids = llm.get_tokenizer().encode(text)
    expected = ids(llm.generate(text, GREEDY))
    for prompts in (
        [text],
        token_ids,
        [token_ids],
        {"prompt": text},
        [{"prompt_token_ids": token_ids}],
        {"prompt": text, "prompt_token_ids": token_ids},
    ):
        assert ids(llm.generate(prompts, GREEDY)) == expected
    for old in (token_ids, [token_ids]):
        assert ids(llm.generate(prompt_token_ids=old, sampling_params=GREEDY)) == expected
    assert llm.generate([], GREEDY) == []


def test_params_for_each_prompt(llm: LLM) -> None:
    params = [SamplingParams(temperature=0, max_tokens=n, ignore_eos=True) for n in (1, 3, 2)]
    outputs = llm.generate(["a", "b", "c"], params, priority=[0, 1, 2])
    assert [len(o.outputs[0].token_ids) for o in outputs] == [1, 3, 2]
    assert [o.prompt for o in outputs] == ["a", "b", "c"]
    assert [o.outputs[0].finish_reason for o in outputs] == ["length"] * 3
    with pytest.raises(RequestError, match="sampling_params has 2 entries for 3 prompts"):
        llm.generate(["a", "b", "c"], params[:2])
    with pytest.raises(RequestError, match="priority has 1 entries for 3 prompts"):
        llm.generate(["a", "b", "c"], GREEDY, priority=[1])


def test_default_params_are_the_models(llm: LLM) -> None:
    assert llm.get_default_sampling_params().temperature == llm.model_info.generation_defaults.get(
        "temperature", 1.0
    )
    assert llm.generate("Hello")[0].outputs[0].token_ids


def test_n_sequences(llm: LLM) -> None:
    params = SamplingParams(n=3, temperature=1.0, seed=5, max_tokens=8, ignore_eos=True)
    output = llm.generate("Once upon a time", params)[0]
    assert [o.index for o in output.outputs] == [0, 1, 2]
    assert len({tuple(o.token_ids) for o in output.outputs}) > 1
    again = llm.generate(["x", "Once upon a time", "y"], [GREEDY, params, GREEDY])[1]
    assert [o.token_ids for o in again.outputs] == [o.token_ids for o in output.outputs]


def test_stop_strings(llm: LLM) -> None:
    full = llm.chat(SEOUL, GREEDY)[0].outputs[0].text
    stop = full[4:7]
    for include in (False, True):
        params = SamplingParams(
            temperature=0, max_tokens=24, stop=stop, include_stop_str_in_output=include
        )
        output = llm.chat(SEOUL, params)[0].outputs[0]
        assert output.text == full[: full.index(stop) + 3 * include]
        assert (output.finish_reason, output.stop_reason) == ("stop", stop)


def test_logprobs(llm: LLM) -> None:
    params = SamplingParams(temperature=0, max_tokens=4, logprobs=3, prompt_logprobs=2)
    output = llm.generate("The capital of South Korea is", params)[0]
    sequence = output.outputs[0]
    assert sequence.logprobs is not None
    assert len(sequence.logprobs) == len(sequence.token_ids)
    total = 0.0
    for token_id, position in zip(sequence.token_ids, sequence.logprobs):
        assert position[token_id].rank == 1
        assert len(position) == 3
        total += position[token_id].logprob
    assert sequence.cumulative_logprob == pytest.approx(total)
    assert output.prompt_logprobs is not None
    assert len(output.prompt_logprobs) == len(output.prompt_token_ids)
    assert output.prompt_logprobs[0] is None
    for token_id, entry in zip(output.prompt_token_ids[1:], output.prompt_logprobs[1:]):
        assert entry is not None
        assert token_id in entry


def test_stream(llm: LLM) -> None:
    expected = texts(llm.generate("The capital of South Korea is", GREEDY))[0]
    updates = list(llm.stream("The capital of South Korea is", GREEDY))
    assert "".join(u.text for u in updates) == expected
    for update in llm.stream("Hello", SamplingParams(max_tokens=100, ignore_eos=True)):
        if update.token_ids:
            break  # the rest is aborted
    assert texts(llm.generate("The capital of South Korea is", GREEDY)) == [expected]


def test_a_call_inside_a_stream_is_refused_rather_than_hanging(llm: LLM) -> None:
    stream = llm.stream("one two", SamplingParams(max_tokens=8))
    next(stream)
    for call in (lambda: llm.generate("three"), llm.reset_prefix_cache):
        with pytest.raises(RequestError, match=r"stream\(\) of this LLM is not finished"):
            call()
    stream.close()
    assert len(llm.generate("three", SamplingParams(max_tokens=2))) == 1


def test_progress_callable(llm: LLM) -> None:
    """Anything with tqdm's interface, as vLLM takes."""

    class Bar:
        def __init__(self, **options: Any) -> None:
            self.options, self.count, self.closed, self.postfix = options, 0, False, ""
            bars.append(self)

        def update(self, n: int) -> None:
            self.count += n

        def close(self) -> None:
            self.closed = True

    bars: list[Bar] = []
    # Both sequences of a prompt end in one step.
    llm.generate(["a", "b"], SamplingParams(n=2, max_tokens=2), use_tqdm=Bar)
    assert (bars[0].options["total"], bars[0].count, bars[0].closed) == (2, 2, True)
    assert "toks/s" in bars[0].postfix


def test_beam_search(llm: LLM) -> None:
    prompt = "The capital of South Korea is"
    prompt_ids = llm.get_tokenizer().encode(prompt)
    params = BeamSearchParams(beam_width=3, max_tokens=4, ignore_eos=True)
    beams = llm.beam_search([prompt, {"prompt": prompt}], params)
    assert len(beams) == 2
    best = beams[0].sequences
    assert [b.tokens for b in beams[1].sequences] == [b.tokens for b in best]
    assert len(best) == 3
    scores = [b.cum_logprob / len(b.tokens) for b in best]
    assert scores == sorted(scores, reverse=True)
    for beam in best:
        assert beam.tokens[: len(prompt_ids)] == prompt_ids
        assert len(beam.tokens) == len(prompt_ids) + 4
        assert beam.text == llm.get_tokenizer().decode(beam.tokens)
        assert len(beam.logprobs) == 4
        # Its score is that of the same tokens as a prompt.
        given = llm.generate(beam.tokens, SamplingParams(max_tokens=1, prompt_logprobs=0))[0]
        assert given.prompt_logprobs is not None
        positions = zip(beam.tokens[-4:], given.prompt_logprobs[-4:])
        total = sum((entry or {})[token].logprob for token, entry in positions)
        assert beam.cum_logprob == pytest.approx(total, abs=1e-3)
    # One beam is greedy.
    one = llm.beam_search(prompt, BeamSearchParams(beam_width=1, max_tokens=4, ignore_eos=True))
    greedy = SamplingParams(temperature=0, max_tokens=4, ignore_eos=True)
    assert one[0].sequences[0].tokens == prompt_ids + ids(llm.generate(prompt, greedy))[0]


def test_beams_end(llm: LLM) -> None:
    prompt = llm.chat(SEOUL, GREEDY)[0].prompt
    assert prompt is not None
    best = llm.beam_search(prompt, BeamSearchParams(beam_width=2, max_tokens=30))[0].sequences[0]
    assert best.finish_reason == "stop"
    assert "Seoul" in (best.text or "")


# --- what can be wrong ---


@pytest.mark.parametrize(
    ("prompts", "match"),
    [
        (["ok", ""], "prompt 1 of 2: the prompt is empty"),
        (["ok", "x " * MAX_LEN], "prompt 1 of 2: .*maximum model length of 256"),
        ([[5], [10**6]], r"prompt 1 of 2: prompt_token_ids\[0\] is 1000000, outside"),
        (["ok", 5], "prompt 1 of 2: a prompt must be"),
        (7, "prompts must be a prompt or a list"),
        (None, "needs prompts"),
    ],
)
def test_a_bad_prompt_runs_nothing(llm: LLM, prompts: Any, match: str) -> None:
    with pytest.raises(RequestError, match=match):
        llm.generate(prompts, GREEDY)
    assert texts(llm.chat(SEOUL, GREEDY))[0]


def test_bad_options() -> None:
    with pytest.raises(ConfigError, match="unknown option 'max_modl_len'; did you mean 'max_model"):
        LLM(max_modl_len=5)
    with pytest.raises(ConfigError, match="dtype must be one of"):
        LLM(dtype="int3")
    with pytest.raises(NotYetSupportedError, match="enable_lora"):
        LLM(enable_lora=True)
    with pytest.raises(ModelNotFoundError, match="/no/such/model"):
        LLM("/no/such/model")


def test_what_does_not_exist_yet_is_refused(llm: LLM) -> None:
    with pytest.raises(NotYetSupportedError, match="lora_request"):
        llm.generate("x", lora_request=object())  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="chat_template_content_format"):
        llm.chat(SEOUL, chat_template_content_format="xml")  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="not both"):
        llm.generate("x", prompt_token_ids=[1])


def test_interrupt_leaves_the_llm_usable(llm: LLM) -> None:
    expected = ids(llm.chat(SEOUL, GREEDY))
    long = SamplingParams(temperature=1, max_tokens=200, ignore_eos=True)
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()

    def for_ever() -> None:
        while True:
            llm.generate(["a", "b", "c"], long)

    with pytest.raises(KeyboardInterrupt):
        for_ever()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert ids(llm.chat(SEOUL, GREEDY)) == expected


def test_calls_from_threads(llm: LLM) -> None:
    results: list[list[int]] = []
    threads = [
        threading.Thread(target=lambda: results.append(ids(llm.chat(SEOUL, GREEDY))[0]))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    assert len({tuple(r) for r in results}) == 1


# --- lives ---


def test_several_live_and_die(llm: LLM) -> None:
    expected = ids(llm.chat(SEOUL, GREEDY))
    with LLM(**OPTIONS, kv_cache_memory_bytes=8 << 20) as other:
        assert ids(other.chat(SEOUL, GREEDY)) == expected
        assert other.reset_prefix_cache()
    with pytest.raises(EngineDeadError, match="has been closed"):
        other.generate("x")
    other.close()
    assert ids(llm.chat(SEOUL, GREEDY)) == expected


def test_forgotten_is_freed() -> None:
    llm = LLM(**OPTIONS, kv_cache_memory_bytes=8 << 20)
    llm.generate("x", SamplingParams(max_tokens=2))
    engine = weakref.ref(llm._engine)
    del llm
    gc.collect()
    assert engine() is None


def test_without_a_tokenizer() -> None:
    with LLM(skip_tokenizer_init=True, **OPTIONS, kv_cache_memory_bytes=8 << 20) as llm:
        output = llm.generate({"prompt_token_ids": [5, 6]}, SamplingParams(max_tokens=3))[0]
        assert output.outputs[0].token_ids
        assert output.outputs[0].text == ""
        with pytest.raises(RequestError, match="skip_tokenizer_init"):
            llm.generate("text")
        with pytest.raises(RequestError, match="needs a tokenizer"):
            llm.chat(SEOUL)
        assert llm.beam_search([[5, 6]], BeamSearchParams(beam_width=2, max_tokens=2))


def test_too_long_is_a_value_error(llm: LLM) -> None:
    """Scripts for other engines catch ValueError."""
    with pytest.raises(ValueError, match="maximum model length") as caught:
        llm.generate([5] * 1000, GREEDY)
    assert isinstance(caught.value, PromptTooLongError)
