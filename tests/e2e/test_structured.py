"""Structured outputs on the boxed model: what comes out is what was asked for, always."""

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from quire import LLM, RequestOutput, SamplingParams, StructuredOutputsParams
from quire.core import structural_tags as tags
from quire.core.config import engine_config
from quire.core.errors import RequestError
from quire.core.messages import AddRequest
from quire.engine.client import InProcessEngine
from quire.engine.frontend import RequestTracker
from quire.engine.tokenizer import open_tokenizer
from quire.structured import grammars

OPTIONS: dict[str, Any] = {"max_model_len": 512, "max_num_seqs": 16, "dtype": "float32"}
ASK = [{"role": "user", "content": "Describe a person as JSON."}]
SEOUL = [{"role": "user", "content": "What is the capital of South Korea?"}]

WORD = {"type": "string", "maxLength": 8}
SCHEMAS: dict[str, dict[str, Any]] = {
    "object": {
        "type": "object",
        "properties": {"name": WORD, "age": {"type": "integer", "minimum": 0, "maximum": 120}},
        "required": ["name", "age"],
        "additionalProperties": False,
    },
    "optional": {
        "type": "object",
        "properties": {"a": {"type": "boolean"}, "b": {"type": "null"}, "c": {"enum": [1, "x"]}},
        "additionalProperties": False,
    },
    "array": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 2, "maxItems": 4},
    "tuple": {
        "type": "array",
        "prefixItems": [{"type": "boolean"}, {"type": "string", "pattern": "^[a-z]{2,4}$"}],
        "items": False,
        "minItems": 2,
    },
    "any of": {"anyOf": [{"const": "one"}, {"type": "integer", "minimum": 5, "maximum": 9}]},
    "all of": {
        "allOf": [
            {"type": "object", "properties": {"x": {"type": "boolean"}}, "required": ["x"]},
            {"properties": {"y": {"enum": [None, 0.5]}}, "required": ["y"]},
        ],
        "properties": {"x": True, "y": True},
        "additionalProperties": False,
    },
    "references": {
        "$defs": {
            "leaf": {
                "type": "object",
                "properties": {"v": {"type": "integer", "minimum": 0, "maximum": 99}},
                "required": ["v"],
                "additionalProperties": False,
            }
        },
        "type": "array",
        "items": {"$ref": "#/$defs/leaf"},
        "minItems": 1,
        "maxItems": 2,
    },
    "formats": {
        "type": "object",
        "properties": {
            "d": {"type": "string", "format": "date"},
            "u": {"type": "string", "format": "uuid"},
        },
        "required": ["d", "u"],
        "additionalProperties": False,
    },
    "one of": {
        "oneOf": [
            {
                "type": "object",
                "properties": {"kind": {"const": kind}, "size": {"type": "boolean"}},
                "required": ["kind", "size"],
                "additionalProperties": False,
            }
            for kind in ("cat", "dog")
        ]
    },
    "escapes": {"enum": ['a "quoted" \\ one', "line\nbreak", "한국 😀"]},
}


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with LLM(**OPTIONS, kv_cache_memory_bytes=32 << 20) as llm:
        yield llm


def constrained(seed: int = 0, **options: Any) -> SamplingParams:
    """Keywords of `StructuredOutputsParams` go there, the others to `SamplingParams`."""
    own = {k: options.pop(k) for k in list(options) if k in StructuredOutputsParams.__slots__}
    options = {"max_tokens": 160, "temperature": 1.0, "seed": seed} | options
    return SamplingParams(structured_outputs=StructuredOutputsParams(**own), **options)


def ask(llm: LLM, params: list[SamplingParams] | SamplingParams) -> list[RequestOutput]:
    each = params if isinstance(params, list) else [params]
    return llm.chat([ASK] * len(each), each, use_tqdm=False)


def texts(outputs: list[RequestOutput]) -> list[str]:
    for output in outputs:
        for sequence in output.outputs:
            assert sequence.finish_reason == "stop", sequence
            assert sequence.stop_reason is None
    return [sequence.text for output in outputs for sequence in output.outputs]


# --- JSON ---


def test_json_is_valid_whatever_the_temperature(llm: LLM) -> None:
    temperatures = (0.0, 0.7, 1.0, 2.0)
    cases = [(name, t) for name in SCHEMAS for t in temperatures]
    params = [
        constrained(i, json=SCHEMAS[name], temperature=t) for i, (name, t) in enumerate(cases)
    ]
    for (name, _), text in zip(cases, texts(ask(llm, params))):
        jsonschema.validate(json.loads(text), SCHEMAS[name])


def test_a_schema_as_text_and_any_json(llm: LLM) -> None:
    first, second, third = texts(
        ask(
            llm,
            [
                constrained(json=json.dumps(SCHEMAS["any of"])),
                constrained(json={}, temperature=0.0),
                constrained(json_object=True, temperature=0.0),
            ],
        )
    )
    jsonschema.validate(json.loads(first), SCHEMAS["any of"])
    json.loads(second)
    assert isinstance(json.loads(third), dict)


def test_blanks_do_not_go_on_for_ever(llm: LLM) -> None:
    """Even from a model that wants nothing else."""
    tokenizer = llm.tokenizer
    assert tokenizer is not None
    blanks = {i: 100.0 for i in range(len(tokenizer)) if not tokenizer.token_text(i).strip()}
    schema = {
        "type": "object",
        "properties": {"a": {"type": "boolean"}, "b": {"type": "boolean"}},
        "required": ["a", "b"],
        "additionalProperties": False,
    }
    free, none, mine = texts(
        ask(
            llm,
            [
                constrained(json=schema, logit_bias=blanks),
                constrained(json=schema, logit_bias=blanks, disable_any_whitespace=True),
                constrained(json=schema, logit_bias=blanks, whitespace_pattern=" {0,2}"),
            ],
        )
    )
    assert json.loads(free).keys() == json.loads(none).keys() == json.loads(mine).keys()
    assert max(map(len, re.findall(r"\s*", free))) in range(2, 26)
    assert not re.search(r"\s", none)
    assert re.findall(r"\s+", mine)
    assert set(re.findall(r"\s+", mine)) <= {" ", "  "}


def test_it_ends_with_its_last_token(llm: LLM) -> None:
    """No step, and no token, is spent on the end of a text that cannot go on."""
    tokenizer = llm.tokenizer
    assert tokenizer is not None
    (output,) = ask(llm, constrained(json=SCHEMAS["object"], temperature=0.0, ignore_eos=True))
    sequence = output.outputs[0]
    assert sequence.text.endswith("}")
    assert tokenizer.decode(sequence.token_ids) == sequence.text
    assert llm.stats().num_running == llm.stats().num_waiting == 0


def test_cut_off_by_max_tokens(llm: LLM) -> None:
    (output,) = ask(llm, constrained(json=SCHEMAS["object"], max_tokens=3, temperature=0.0))
    assert output.outputs[0].finish_reason == "length"
    assert len(output.outputs[0].token_ids) == 3
    assert output.outputs[0].text.startswith("{")


# --- the other kinds ---


@pytest.mark.parametrize(
    "regex", [r"[0-9]{3}-[0-9]{4}", r"(mon|tues|wednes)day", r"[a-z]{2,9}@[a-z]{2,5}\.(com|org)"]
)
def test_regex(llm: LLM, regex: str) -> None:
    params = [constrained(i, regex=regex, temperature=1.5) for i in range(4)]
    for text in texts(ask(llm, params)):
        assert re.fullmatch(regex, text), text


def test_choice_with_several_sequences(llm: LLM) -> None:
    choices = ["yes", "no", "yes, but", "서울"]
    found = texts(ask(llm, constrained(choice=choices, n=8, temperature=2.0)))
    assert len(found) == 8
    assert set(found) <= set(choices)
    assert len(set(found)) > 1


def test_grammars(llm: LLM) -> None:
    lark = 'start: "<" WORD ("," WORD){0,2} ">"\nWORD: /[a-z]{1,5}/'
    gbnf = 'root ::= "<" word ("," word)? ">"\nword ::= [a-z] [a-z]?'
    for text in texts(ask(llm, [constrained(i, grammar=g) for i, g in enumerate((lark, gbnf))])):
        assert re.fullmatch(r"<[a-z]{1,5}(,[a-z]{1,5}){0,2}>", text)


def test_tool_calls(llm: LLM) -> None:
    """Forced to call: the call is well formed. Left free: the answer is what it would be."""
    schema = {
        "type": "object",
        "properties": {"name": {"const": "f"}, "arguments": SCHEMAS["object"]},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }
    call = tags.Tag("<tool_call>\n", tags.JsonSchema(schema), "\n</tool_call>")
    must = tags.TriggeredTags(["<tool_call>"], [call], at_least_one=True, stop_after_first=True)
    may = tags.TriggeredTags(["<tool_call>"], [call])
    (text,) = texts(ask(llm, constrained(structural_tag=tags.structural_tag(must))))
    found = re.fullmatch(r"<tool_call>\n(.*)\n</tool_call>", text, re.DOTALL)
    assert found
    jsonschema.validate(json.loads(found[1]), schema)
    plain = SamplingParams(temperature=0.0, max_tokens=40)
    free = constrained(structural_tag=tags.structural_tag(may), temperature=0.0, max_tokens=40)
    first, second = llm.chat([SEOUL, SEOUL], [plain, free], use_tqdm=False)
    assert first.outputs[0].token_ids == second.outputs[0].token_ids


# --- beside everything else ---


def test_others_are_as_without_it(llm: LLM) -> None:
    plain = [
        SamplingParams(temperature=0.0, max_tokens=30),
        SamplingParams(temperature=1.0, seed=3, max_tokens=30),
    ]
    alone = [o.outputs[0].token_ids for o in llm.chat([SEOUL] * 2, plain, use_tqdm=False)]
    mixed = [
        plain[0],
        constrained(json=SCHEMAS["formats"]),
        plain[1],
        constrained(regex="[a-c]{20}"),
    ]
    beside = llm.chat([SEOUL] * 4, mixed, use_tqdm=False)
    assert [beside[i].outputs[0].token_ids for i in (0, 2)] == alone


def test_with_other_parameters(llm: LLM) -> None:
    tokenizer = llm.tokenizer
    assert tokenizer is not None
    digits = [i for i in range(len(tokenizer)) if tokenizer.token_text(i) in list("13579")]
    scored, early, long, odd = ask(
        llm,
        [
            constrained(choice=["yes", "no"], logprobs=3, temperature=0.0),
            constrained(regex="[a-z]{3}-[a-z]{3}", stop=["-"]),
            constrained(regex="[a-z]+", min_tokens=6, max_tokens=12, temperature=0.0),
            constrained(regex="[0-9]{4}", allowed_token_ids=digits),
        ],
    )
    sequence = scored.outputs[0]
    assert sequence.logprobs is not None
    assert [set(position) >= {t} for position, t in zip(sequence.logprobs, sequence.token_ids)]
    assert sequence.cumulative_logprob is not None
    assert re.fullmatch("[a-z]{3}", early.outputs[0].text)
    assert early.outputs[0].stop_reason == "-"
    assert len(long.outputs[0].token_ids) >= 6
    assert re.fullmatch("[a-z]+", long.outputs[0].text)
    assert re.fullmatch("[13579]{4}", odd.outputs[0].text)


def test_min_tokens_do_not_outlast_the_grammar(llm: LLM) -> None:
    (text,) = texts(ask(llm, constrained(choice=["yes"], min_tokens=50)))
    assert text == "yes"


def test_nothing_left_to_choose(llm: LLM) -> None:
    """Another parameter forbids all that the grammar allows: an error, for it alone."""
    stuck, fine = ask(
        llm, [constrained(choice=["yes"], allowed_token_ids=[5]), constrained(choice=["yes"])]
    )
    assert stuck.outputs[0].finish_reason == "error"
    assert stuck.outputs[0].error is not None
    assert "no token is allowed" in stuck.outputs[0].error
    assert fine.outputs[0].text == "yes"


def test_steps_planned_ahead_and_preemption_change_nothing(llm: LLM) -> None:
    params = [
        constrained(i, json=SCHEMAS[name]) for i, name in enumerate((*SCHEMAS, "object", "formats"))
    ]
    plain = SamplingParams(temperature=0.8, seed=9, max_tokens=60, ignore_eos=True)
    params += [plain, *(constrained(i, regex="[a-z ]{90}") for i in range(4)), plain]
    expected = [o.outputs[0].token_ids for o in ask(llm, params)]
    with LLM(
        **OPTIONS | {"max_model_len": 192},
        block_size=4,
        num_gpu_blocks_override=48,
        async_steps=1,
    ) as tight:
        outputs = ask(tight, params)
        assert tight.stats().num_preemptions > 0
        assert [o.outputs[0].token_ids for o in outputs] == expected


def test_resuming_in_another_engine() -> None:
    """The tokens delivered before an engine died are taken in by the grammar of the next."""
    config = engine_config(**OPTIONS, kv_cache_memory_bytes=16 << 20)
    first, second = InProcessEngine(config, False), InProcessEngine(config, False)
    try:

        def run(interrupted: bool) -> list[list[int]]:
            tracker = RequestTracker(open_tokenizer(config), first.model_info)
            engine = first
            request = tracker.prepare(
                "A person: ", constrained(4, json=SCHEMAS["object"], n=2), request_id="r"
            )
            engine.add(tracker.start(request))
            steps = 0
            while tracker.num_unfinished:
                tracker.process(engine.step().deltas)
                steps += bool(engine.stats().num_running)
                if interrupted and all(len(s.token_ids) >= 3 for s in request.sequences):
                    interrupted = False
                    engine = second
                    for message in tracker.resume():
                        assert isinstance(message, AddRequest)
                        engine.add(message)
            for sequence in request.sequences:
                jsonschema.validate(json.loads(sequence.text), SCHEMAS["object"])
            return [s.token_ids for s in request.sequences]

        assert run(False) == run(True)
    finally:
        first.shutdown()
        second.shutdown()


# --- what goes wrong ---


@pytest.mark.parametrize(
    "constraint",
    [
        {"json": {"type": "objekt"}},
        {"json": "{"},
        {"regex": "(a"},
        {"regex": "(a{1000}){1000}"},
        {"choice": []},
        {"grammar": "start: ("},
        {"grammar": "start: <[99999999]>"},
        {"structural_tag": {"format": {"type": "poem"}}},
    ],
)
def test_bad_constraints_are_refused_before_anything_runs(
    llm: LLM, constraint: dict[str, Any]
) -> None:
    with pytest.raises(RequestError) as caught:
        ask(llm, constrained(**constraint))
    assert caught.value.parameter in constraint
    assert texts(ask(llm, constrained(choice=["on it goes"]))) == ["on it goes"]


def test_a_grammar_may_ask_for_the_end(llm: LLM) -> None:
    (output,) = ask(llm, constrained(choice=["<|im_end|>"]))
    assert (output.outputs[0].text, output.outputs[0].finish_reason) == ("", "stop")


def test_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A grammar that takes long to compile, and others beside it."""
    compile_grammar = grammars._compile

    def slowly(params: StructuredOutputsParams, *others: Any) -> Any:
        if params.regex:
            time.sleep(1.5)
        return compile_grammar(params, *others)

    monkeypatch.setattr(grammars, "_compile", slowly)
    with LLM(**OPTIONS, kv_cache_memory_bytes=16 << 20, grammar_timeout=0.2) as llm:
        texts(ask(llm, constrained(choice=["warm"])))
        plain = SamplingParams(temperature=0.0, max_tokens=20)
        started = time.monotonic()
        late, other, free = ask(llm, [constrained(regex="slow"), constrained(choice=["b"]), plain])
        assert time.monotonic() - started < 1.4
        assert late.outputs[0].finish_reason == "error"
        assert late.outputs[0].error is not None
        assert "time limit of 0.2 s" in late.outputs[0].error
        assert other.outputs[0].text == "b"
        assert free.outputs[0].finish_reason in ("stop", "length")


def test_without_a_tokenizer() -> None:
    with (
        LLM(**OPTIONS, skip_tokenizer_init=True, kv_cache_memory_bytes=16 << 20) as llm,
        pytest.raises(RequestError, match="structured_outputs needs a tokenizer"),
    ):
        llm.generate([[5, 6]], constrained(choice=["a"], detokenize=False))
