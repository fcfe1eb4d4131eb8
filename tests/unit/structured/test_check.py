"""What the front end refuses, and why: before anything is compiled."""

import json
import subprocess
import sys
import time
from typing import Any

import pytest

from quire.core.errors import RequestError
from quire.core.messages import AddRequest
from quire.core.sampling_params import SamplingParams
from quire.core.structured_outputs import StructuredOutputsParams
from quire.engine.wire import decode_to_engine, encode_to_engine
from quire.structured.check import GrammarChecker
from quire.structured.regex import expanded_size


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


def chain(length: int) -> dict[str, Any]:
    """Each definition refers to the next: deep only once the references are followed."""
    links = {
        f"d{i}": {"type": "object", "properties": {"a": {"$ref": f"#/$defs/d{i + 1}"}}}
        for i in range(length)
    }
    return {"$defs": {**links, f"d{length}": {"type": "string"}}, "$ref": "#/$defs/d0"}


WIDE = {"properties": {f"p{i}": {} for i in range(1001)}}
RULES = "start: a0\n" + "".join(f"a{i}: a{i + 1}\n" for i in range(3000)) + 'a3000: "x"\n'
CHAINED = "start: %json " + json.dumps(chain(3000))


@pytest.mark.parametrize(
    ("constraint", "reason"),
    [
        ({"json": "{"}, "not valid JSON"),
        ({"json": "[1]"}, "must be a JSON schema object"),
        ({"json": "false"}, "must be a JSON schema object"),
        ({"json": {"type": "objekt"}}, "^json cannot be used: Invalid type: objekt$"),
        ({"json": {"not": {}}}, "Unimplemented keys.*not"),
        ({"json": {"$ref": "http://example.org/schema"}}, "not present in a registry"),
        ({"json": {"enum": []}}, "nsatisfiable"),
        ({"json": nested(70)}, "deeper than the 64 levels"),
        ({"json": "[" * 5000}, "not valid JSON|deeper"),
        ({"json": chain(3000)}, "levels deep once its references are followed; at most 2000"),
        ({"json": {"const": "x" * 300_000}}, "at most 262144"),
        ({"json": WIDE}, "1001 properties; at most 1000"),
        ({"json": {"const": "\ud800"}}, "surrogate|is not JSON"),
        ({"json": {"type": "string", "pattern": "(a{500}){500}"}}, "250000 characters once"),
        ({"json": {"type": "string", "pattern": "(?=a)b"}}, "look-around"),
        ({"json": {"a": {1, 2}}}, "is not JSON"),
        ({"regex": "(a"}, "unclosed group"),
        ({"regex": r"(a)\1"}, "backreference"),
        ({"regex": ""}, "regex is empty"),
        ({"regex": "a" * 40_000}, "at most 32768"),
        ({"regex": "(a{1000}){1000}"}, "1000000 characters once its repetitions"),
        ({"regex": "((((a{9}){9}){9}){9}){99}"}, "once its repetitions"),
        ({"regex": "(" * 3000 + "a" + ")" * 3000}, "nest"),
        ({"choice": []}, "choice is empty"),
        ({"choice": ["", ""]}, "nothing but empty"),
        ({"choice": [str(i) for i in range(10_001)]}, "10001 texts; at most 10000"),
        ({"grammar": " "}, "grammar is empty"),
        ({"grammar": "start: ("}, "Expected token"),
        ({"grammar": "root ::= ("}, "not valid GBNF"),
        ({"grammar": RULES}, "3002 rules; at most 2000"),
        ({"grammar": 'r ::= "a"\n' * 401}, "401 rules; at most 400"),
        ({"grammar": "root ::= " + "(" * 900 + '"a"' + ")" * 900}, "not valid GBNF: "),
        ({"grammar": CHAINED}, "at most 131072|levels deep"),
        ({"grammar": 'start: "a" %json {"type" 3}'}, "%json block that is not valid JSON"),
        ({"grammar": 'start: start "a"'}, "it allows no text at all"),
        ({"json": {"$ref": "#"}}, "it allows no text at all"),
        ({"regex": r"[^\s\S]"}, "it allows no text at all"),
        ({"grammar": "start: " + "(" * 3000 + '"a"' + ")" * 3000}, "too deeply nested"),
        ({"json": {}, "whitespace_pattern": "("}, "regex"),
    ],
    ids=range(39),
)
def test_refused_with_the_reason(constraint: dict[str, Any], reason: str) -> None:
    started = time.perf_counter()
    with pytest.raises(RequestError, match=reason) as caught:
        GrammarChecker({}).check(StructuredOutputsParams(**constraint))
    assert caught.value.parameter in constraint
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert time.perf_counter() - started < 2.0


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "exactly one of json, regex.*got none"),
        ({"json": {}, "regex": "a"}, "got json and regex"),
        ({"json_object": False}, "got none"),
        ({"json": 5}, "json must be an object"),
        ({"regex": ["a"]}, "regex must be a string"),
        ({"choice": "yes"}, "choice must be a list of strings"),
        ({"choice": [1]}, "choice must be a list of strings"),
        ({"json_object": "yes"}, "json_object must be true"),
        ({"json": {}, "whitespace_pattern": 3}, "whitespace_pattern must be a string"),
    ],
)
def test_one_constraint_of_the_right_type(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        StructuredOutputsParams(**options)


@pytest.mark.parametrize(
    "constraint",
    [
        {"json": {}},
        {"json": True and "true"},
        {"json": chain(300)},
        {"json": nested(60)},
        {"json": {"properties": {f"p{i}": {"type": "string"} for i in range(300)}}},
        {"json": {"$defs": {"t": {"items": {"$ref": "#/$defs/t"}}}, "$ref": "#/$defs/t"}},
        {"json": {"properties": {"format": {"type": "string"}, "$ref": {"type": "integer"}}}},
        {"json": {"type": "string", "format": "binary", "x-guidance": {"lenient": False}}},
        {"regex": "|".join(f"word{i}" for i in range(2000))},
        {"regex": r"[\]{}()]{3}\p{Letter}{2}\{5"},
        {"choice": ["a"] * 100},
        {"grammar": "start: a\na: b*\nb: /x/ | %json {}\n"},
        {"json": {}, "whitespace_pattern": ""},
        {"json": {"type": "string", "format": {"odd": 1}}},
        {"json": {}, "whitespace_pattern": " "},
        {"regex": " "},
        {"choice": [" ", "\n"]},
        {"choice": ["<end>"]},
        {"grammar": 'start: <[150000]> "a"'},
    ],
    ids=range(19),
)
def test_taken(constraint: dict[str, Any]) -> None:
    GrammarChecker(["<end>"], 200_000).check(StructuredOutputsParams(**constraint))


def test_a_known_constraint_costs_nothing() -> None:
    checker = GrammarChecker({}, remember=2)
    large = {"properties": {f"p{i}": {"type": "string"} for i in range(500)}}
    checker.check(StructuredOutputsParams(json=large))
    started = time.perf_counter()
    for _ in range(10):
        checker.check(StructuredOutputsParams(json=large))
    assert time.perf_counter() - started < 0.1
    for i in range(5):
        checker.check(StructuredOutputsParams(choice=[str(i)]))
    assert len(checker._known) == 2


@pytest.mark.parametrize(
    ("pattern", "size"),
    [
        ("abc", 3),
        ("a{3}", 3),
        ("a{2,5}b", 6),
        ("(ab){10}", 20),
        ("((ab){10}c){3}", 63),
        ("[abc]{4}", 4),
        (r"\p{L}{4}\{{2}", 6),
        (r"[]{}\]]{3}", 3),
        ("a|b|c", 3),
        ("(a|b){3}", 6),
        ("a*b+", 2),
        ("a{,3}", 3),
        ("{", 0),
        ("a{x}", 4),
    ],
)
def test_what_a_regex_stands_for(pattern: str, size: int) -> None:
    assert abs(expanded_size(pattern) - size) <= 2


def test_the_deepest_allowed_do_not_overflow_the_stack() -> None:
    """In a process of its own: an overflow would end it."""
    code = f"""
import json
from quire.core.structured_outputs import StructuredOutputsParams
from quire.structured.check import GrammarChecker
links = {{
    f"d{{i}}": {{"anyOf": [{{"$ref": f"#/$defs/d{{i + 1}}"}}, {{"type": "null"}}]}}
    for i in range(380)
}}
schema = {{"$defs": {{**links, "d380": {{"type": "string"}}}}, "$ref": "#/$defs/d0"}}
rules = "start: a0\\n" + "".join(f"a{{i}}: a{{i + 1}}\\n" for i in range(1990)) + 'a1990: "x"\\n'
for constraint in ({{"json": schema}}, {{"grammar": rules}}, {{"json": {chain(390)!r}}}):
    GrammarChecker({{}}).check(StructuredOutputsParams(**constraint))
print("fine")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "fine", done.stderr[-500:]


def test_it_crosses_the_socket() -> None:
    """Every field, in the message that starts a request."""
    for params in (
        StructuredOutputsParams(json={"a": [1, None, {"b": 0.5}]}, whitespace_pattern=" ?"),
        StructuredOutputsParams(json='{"type": "integer"}', disable_any_whitespace=True),
        StructuredOutputsParams(choice=["a", "b"]),
        StructuredOutputsParams(json_object=True, disable_additional_properties=True),
        StructuredOutputsParams(structural_tag={"format": {"type": "any_text"}}),
    ):
        message = AddRequest(
            request_id="r",
            prompt_token_ids=[1],
            params=SamplingParams(structured_outputs=params),
            seed=0,
            stop_token_ids=[],
            arrival_time=0.0,
            max_tokens=1,
        )
        decoded = decode_to_engine(encode_to_engine(message))
        assert isinstance(decoded, AddRequest)
        assert decoded.params.structured_outputs == params
