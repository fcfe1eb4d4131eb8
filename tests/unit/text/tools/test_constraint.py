"""The grammar of tool calls: it takes what the parser reads and nothing else."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import quire.boxed
from quire.core.structured_outputs import StructuredOutputsParams
from quire.engine.tokenizer import vocabulary_of
from quire.structured.check import GrammarChecker, grammar_of
from quire.structured.state import Matcher
from quire.structured.vocabulary import Vocabulary
from quire.text.load import load_tokenizer
from quire.text.tokenizer import Tokenizer
from quire.text.tools.constraint import ToolConstraint, tool_constraint
from quire.text.tools.events import assemble
from quire.text.tools.formats import TOOL_PARSER_ALIASES, TOOL_PARSERS
from quire.text.tools.parser import ToolParser

LIGHT = {
    "type": "function",
    "function": {
        "name": "light",
        "parameters": {
            "type": "object",
            "properties": {
                "room": {"type": "string", "enum": ["hall", "attic"]},
                "level": {"$ref": "#/$defs/level"},
                "slow": {"type": "boolean"},
            },
            "required": ["room", "level"],
            "additionalProperties": False,
            "$defs": {"level": {"type": "integer", "minimum": 0, "maximum": 9}},
        },
    },
}
STOP = {
    "type": "function",
    "function": {
        "name": "stop",
        "parameters": {"type": "object", "properties": {"now": {"type": "boolean"}},
                       "additionalProperties": False},
    },
}  # fmt: skip
TOOLS = [LIGHT, STOP]
NAMES = sorted(set(TOOL_PARSERS) - {"granite4", "llama4_json", "llama4_pythonic", "hunyuan_a13b"})


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer(Path(quire.boxed.__path__[0]))


@pytest.fixture(scope="module")
def vocabulary(tokenizer: Tokenizer) -> Vocabulary:
    size = tokenizer.max_token_id + 1
    eos = [i for i, t in ((i, tokenizer.decode([i])) for i in range(8)) if t == "<|im_end|>"]
    return vocabulary_of(tokenizer, size, tuple(eos or [2]))


class Walker:
    """Texts through a constraint's grammar."""

    def __init__(self, tokenizer: Tokenizer, vocabulary: Vocabulary) -> None:
        self.tokenizer = tokenizer
        self.vocabulary = vocabulary

    def matcher(self, constraint: ToolConstraint | None) -> Matcher:
        assert constraint is not None
        params = StructuredOutputsParams(structural_tag=constraint.structural_tag())
        return Matcher.compile(grammar_of(params, {}), self.vocabulary)

    def allowed(self, matcher: Matcher) -> list[int]:
        mask = matcher.next_mask()
        if mask is None:
            return []
        ids = np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little"))
        return [int(i) for i in ids]

    def takes(self, constraint: ToolConstraint | None, text: str) -> bool:
        matcher = self.matcher(constraint)
        for token_id in self.tokenizer.encode(text, add_special_tokens=False):
            if matcher.complete or token_id not in self.allowed(matcher):
                return False
            matcher.consume([token_id])
        return matcher.complete or bool(
            set(self.allowed(matcher)) & set(self.vocabulary.eos_token_ids)
        )

    def walk(self, constraint: ToolConstraint | None, seed: int) -> str | None:
        """A random text of the grammar; None if it did not end."""
        choose = random.Random(seed)
        matcher = self.matcher(constraint)
        eos = set(self.vocabulary.eos_token_ids)
        ids: list[int] = []
        while len(ids) < 300:
            if matcher.complete:
                break
            allowed = self.allowed(matcher)
            if not allowed or (eos & set(allowed) and choose.random() < 0.7):
                break
            ids.append(choose.choice([i for i in allowed if i not in eos]))
            matcher.consume(ids[-1:])
        else:
            return None
        return self.tokenizer.decode(ids, skip_special_tokens=False)


@pytest.fixture(scope="module")
def walker(tokenizer: Tokenizer, vocabulary: Vocabulary) -> Walker:
    return Walker(tokenizer, vocabulary)


def calls(name: str, text: str, bound: bool) -> list[tuple[str, dict[str, Any]]]:
    parser = ToolParser(name, TOOLS, bound=bound)
    parsed = assemble([*parser.feed(text), *parser.finish()])
    assert parsed.content == ""
    return [(call.name, json.loads(call.arguments)) for call in parsed.tool_calls]


def check_arguments(name: str, arguments: dict[str, Any]) -> None:
    if name == "stop":
        assert set(arguments) <= {"now"}
        assert all(isinstance(value, bool) for value in arguments.values())
        return
    assert name == "light"
    assert {"room", "level"} <= set(arguments) <= {"room", "level", "slow"}
    assert arguments["room"] in ("hall", "attic")
    assert arguments["level"] in range(10)
    assert isinstance(arguments.get("slow", True), bool)


@pytest.mark.parametrize("parser_name", NAMES)
def test_what_the_grammar_makes_the_parser_reads(parser_name: str, walker: Walker) -> None:
    forced = tool_constraint(parser_name, TOOLS, "required")
    ended = 0
    for seed in range(6):
        text = walker.walk(forced, seed)
        if text is None:
            continue
        ended += 1
        for bound in (False, True):
            made = calls(parser_name, text, bound)
            assert made, text
            for name, arguments in made:
                check_arguments(name, arguments)
    assert ended >= 2


@pytest.mark.parametrize("parser_name", NAMES)
def test_one_tool_once(parser_name: str, walker: Walker) -> None:
    constraint = tool_constraint(parser_name, [STOP], "required", parallel=False)
    made = [text for seed in range(3) if (text := walker.walk(constraint, seed)) is not None]
    assert made
    for text in made:
        assert [name for name, _ in calls(parser_name, text, True)] == ["stop"]


@pytest.mark.parametrize("parser_name", [*NAMES, *TOOL_PARSER_ALIASES])
@pytest.mark.parametrize("choice", ["auto", "required"])
def test_grammars_compile(parser_name: str, choice: str) -> None:
    constraint = tool_constraint(parser_name, TOOLS, choice)
    if constraint is None:
        assert (parser_name, choice) == ("json", "auto")
        return
    for each in (constraint, constraint.relaxed()):
        params = StructuredOutputsParams(structural_tag=each.structural_tag())
        GrammarChecker(["[TOOL_CALLS]", "<|tool_call|>"]).check(params)


CALL = '<tool_call>\n{"name": "light", "arguments": {"room": "hall", "level": 3}}\n</tool_call>'


@pytest.mark.parametrize(
    ("choice", "parallel", "text", "expected"),
    [
        ("auto", True, "Hello <b>", True),
        ("auto", True, CALL, True),
        ("auto", True, f"Sure.\n{CALL}\n{CALL}\n", True),
        ("auto", False, f"Sure.\n{CALL}", True),
        ("auto", False, f"{CALL}\n{CALL}", False),
        ("auto", True, "<tool_call> no", False),
        ("auto", True, CALL.replace("light", "night"), False),
        ("auto", True, CALL.replace("3", '"3"'), False),
        ("auto", True, CALL.replace("3", "33"), False),
        ("required", True, CALL, True),
        ("required", True, f"{CALL}\n{CALL}", True),
        ("required", False, f"{CALL}\n{CALL}", False),
        ("required", True, f"Sure. {CALL}", False),
        ("required", True, "", False),
    ],
)
def test_hermes(choice: str, parallel: bool, text: str, expected: bool, walker: Walker) -> None:
    assert walker.takes(tool_constraint("hermes", TOOLS, choice, parallel), text) is expected


@pytest.mark.parametrize(
    ("parser_name", "text", "expected"),
    [
        ("llama3_json", 'Hi. {"a": 1}', True),
        ("llama3_json", '{"name": "stop", "parameters": {"now": true}}', True),
        ("llama3_json", '{"name": "stop", "parameters": {"now": 1}}', False),
        ("mistral", "[TOOL_CALLS]stop{}", True),
        ("mistral", "[TOOL_CALLS]stop[ARGS]{}", True),
        ("mistral", '[TOOL_CALLS] [{"name": "stop", "arguments": {}}]', True),
        ("mistral", "[TOOL_CALLS]walk{}", False),
        (
            "qwen3_coder",
            ("ok\n<tool_call>\n<function=light>\n<parameter=room>\nhall\n</parameter>\n"
            "<parameter=level>\n3\n</parameter>\n</function>\n</tool_call>"),
            True,
        ),
        ("qwen3_coder", "<function=light>\n<parameter=room>\ncellar", False),  # no outer tag
        ("qwen3_coder", "<tool_call>\n<function=light>\n</function>", False),  # incomplete
        ("qwen3_coder", "<tool_call>\n<function=light>\n<parameter=level>", False),  # in order
        ("glm45", "<tool_call>light\n</tool_call>", False),
        ("granite", "<tool_call>[no", False),  # the second of its two tags
        ("qwen3_coder", "<tool_call>\n<function=light>\n<parameter=colour>\n", False),
        ("kimi_k2", ("ok<|tool_calls_section_begin|><|tool_call_begin|>functions.stop:0"
         "<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>"), True),
    ],
)  # fmt: skip
def test_other_formats(parser_name: str, text: str, expected: bool, walker: Walker) -> None:
    assert walker.takes(tool_constraint(parser_name, TOOLS, "auto"), text) is expected


def test_mistral_versions() -> None:
    def begins(template: str) -> list[str]:
        made = tool_constraint("mistral", [STOP], "required", chat_template=template)
        assert made is not None
        ways = made.structural_tag()["format"]["elements"]
        rows = [way if "begin" in way else way["tags"][0] for way in ways]
        return [row["begin"] for row in rows]

    assert begins("'[TOOL_CALLS]' + name + '[ARGS]' + …") == ["[TOOL_CALLS]stop[ARGS]"]
    assert begins('"[TOOL_CALLS] [" …') == ["[TOOL_CALLS][", "[TOOL_CALLS] ["]
    assert len(begins("")) == 4


def test_any_name_where_a_tool_has_no_schema(walker: Walker) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    text = (
        "<tool_call>\n<function=f>\n<parameter=x>\n1 < 2\n</parameter>\n</function>\n</tool_call>"
    )
    assert walker.takes(tool_constraint("qwen3_coder", tools, "required"), text)
    for name in ("hermes", "pythonic"):
        assert tool_constraint(name, tools, "required") is not None


def test_texts_without_quotes_keep_their_length(walker: Walker) -> None:
    name = {"type": "string", "maxLength": 3}
    function = {"name": "f", "parameters": {"properties": {"a": name}, "required": ["a"]}}
    constraint = tool_constraint("qwen3_coder", [{"function": function}], "required")
    call = "<tool_call>\n<function=f>\n<parameter=a>\n{}\n</parameter>\n</function>\n</tool_call>"
    assert walker.takes(constraint, call.format("abc"))
    assert not walker.takes(constraint, call.format("abcd"))


def test_relaxed(walker: Walker) -> None:
    """Of schemas that cannot be compiled names and types are left, except for strict tools."""
    strict = {**STOP, "function": {**STOP["function"], "strict": True}}  # type: ignore[dict-item]
    constraint = tool_constraint("hermes", [LIGHT, strict], "required")
    assert constraint is not None
    relaxed = constraint.relaxed()
    wrong = CALL.replace("hall", "cellar")
    assert not walker.takes(constraint, wrong)
    assert walker.takes(relaxed, wrong)
    assert not walker.takes(relaxed, CALL.replace('"hall"', "[1]"))
    assert not walker.takes(relaxed, CALL.replace("light", "stop"))


def test_what_binds() -> None:
    def binds(name: str, choice: str) -> bool:
        made = tool_constraint(name, TOOLS, choice)
        assert made is not None
        return made.binds_every_call

    assert binds("hermes", "auto")
    assert binds("llama3_json", "required")
    assert not binds("llama3_json", "auto")  # models vary how they begin it


def test_brackets_alone_force_nothing(walker: Walker) -> None:
    assert tool_constraint("json", TOOLS, "auto") is None
    pythonic = tool_constraint("pythonic", TOOLS, "auto")
    assert walker.takes(pythonic, "[see here]")
    assert not walker.takes(pythonic, "<|python_start|>[see here]")
