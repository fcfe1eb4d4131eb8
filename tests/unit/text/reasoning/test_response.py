"""Reasoning first, then the tool calls in the rest."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quire.text.reasoning.parser import ReasoningParser, ResponseParser
from quire.text.tools.events import ParsedText, ToolCall, assemble
from quire.text.tools.parser import ToolParser

CALL = '<tool_call>\n{"name": "f", "arguments": {"a": "</think>"}}\n</tool_call>'
TEXT = f"<think>\nI could use {CALL}.\n</think>\n\nLet me see.\n{CALL}\n{CALL}\n"


def parser(reasoning: bool = True, tools: bool = True) -> ResponseParser:
    return ResponseParser(
        ReasoningParser("qwen3", "") if reasoning else None,
        ToolParser("hermes", new_id=lambda name, index: str(index)) if tools else None,
    )


def parse_whole(made: ResponseParser, text: str) -> ParsedText:
    return assemble([*made.feed(text), *made.finish()])


def test_both() -> None:
    """The first `</think>` ends the reasoning, wherever it stands."""
    text = TEXT.replace(CALL, "<tool_call>", 1)
    arguments = json.dumps({"a": "</think>"})
    whole = parse_whole(parser(), text)
    assert whole == ParsedText(
        "\n\nLet me see.",
        (ToolCall("0", "f", arguments), ToolCall("1", "f", arguments)),
        "\nI could use <tool_call>.\n",
    )
    made = parser()
    events = [event for character in text for event in made.feed(character)]
    assert assemble([*events, *made.finish()]) == whole


@given(st.lists(st.integers(0, len(TEXT)), max_size=20), st.booleans(), st.booleans())
def test_splits_do_not_matter(cuts: list[int], reasoning: bool, tools: bool) -> None:
    places = [0, *sorted(cuts), len(TEXT)]
    made = parser(reasoning, tools)
    events = [event for a, b in itertools.pairwise(places) for event in made.feed(TEXT[a:b])]
    assert assemble([*events, *made.finish()]) == parse_whole(parser(reasoning, tools), TEXT)


@pytest.mark.parametrize(
    ("reasoning", "tools", "expected"),
    [
        (False, False, ParsedText("<think>a</think>b")),
        (True, False, ParsedText("b", reasoning="a")),
        (False, True, ParsedText("<think>a</think>b")),
    ],
)
def test_without_one(reasoning: bool, tools: bool, expected: ParsedText) -> None:
    made = parser(reasoning, tools)
    assert parse_whole(made, "<think>a</think>b") == expected


def test_held_reasoning_comes_at_the_end() -> None:
    made = parser()
    assert made.feed("<think>a </th") != []
    assert assemble(made.finish()) == ParsedText("", reasoning="</th")
