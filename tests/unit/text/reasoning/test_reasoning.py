"""Reasoning and content: split exactly, wherever the text is cut, as the prompt left it."""

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quire.core.errors import ConfigError
from quire.text.reasoning.formats import REASONING_PARSERS, detect_reasoning_parser
from quire.text.reasoning.parser import (
    ReasoningParser,
    prompt_state,
)
from quire.text.tools.events import (
    ContentDelta,
    ParsedText,
    ReasoningDelta,
    ReasoningEvent,
    assemble,
)

OPEN = "<|im_start|>assistant\n<think>\n"
CLOSED = "<|im_start|>assistant\n<think>\n\n</think>\n\n"
ABSENT = "<|im_start|>user\nWhat is <think>?<|im_end|>\n<|im_start|>assistant\n"

# parser, prompt, text, reasoning, content
CASES = [
    ("deepseek_r1", OPEN, "so\n</think>\n\nYes", "so\n", "\n\nYes"),
    ("deepseek_r1", OPEN, "<think>\nso</think>Yes", "\nso", "Yes"),
    ("deepseek_r1", ABSENT, "<think>so</think>Yes", "so", "Yes"),
    ("deepseek_r1", ABSENT, "so</think>Yes", "so", "Yes"),
    ("deepseek_r1", ABSENT, "so, cut o", "so, cut o", ""),
    ("deepseek_r1", ABSENT, "a </thin", "a </thin", ""),
    ("deepseek_r1", ABSENT, "  <thin", "  <thin", ""),
    ("deepseek_r1", CLOSED, "Yes", "", "Yes"),
    ("deepseek_r1", OPEN, "", "", ""),
    ("qwen3", ABSENT, "\n<think>\nso\n</think>\n\nYes", "\nso\n", "\n\nYes"),
    ("qwen3", ABSENT, "<think></think>Yes", "", "Yes"),
    ("qwen3", ABSENT, "Yes, <think> no </think>", "", "Yes, <think> no </think>"),
    ("qwen3", ABSENT, " <thin", "", " <thin"),
    ("qwen3", ABSENT, "<think>a </think", "a </think", ""),
    ("qwen3", OPEN, "so</think>Yes </think> x", "so", "Yes </think> x"),
    ("qwen3", OPEN, " a < b <think> c</think>d", " a < b <think> c", "d"),
    ("qwen3", CLOSED, "\nYes", "", "\nYes"),
    ("qwen3", CLOSED, "<think>so</think>Yes", "so", "Yes"),
    ("granite", "", "Here is my thought process: a Here's my response: b", " a ", " b"),
    ("granite", "", "Here is my answer", "", "Here is my answer"),
    ("mistral", "", "[THINK]a[b[/THINK]c", "a[b", "c"),
    ("seed_oss", "", "<seed:think>a</seed:think>b", "a", "b"),
    (
        "kimi_k2",
        "",
        "<think>a<|tool_calls_section_begin|>b",
        "a",
        "<|tool_calls_section_begin|>b",
    ),
]


PARTS = [
    *("<think>", "</think>", "<", "</th", "ink>", " ", "\n", "a", "[/THINK]", "[THINK]"),
    *("Here's my response:", "Here is my thought process:", "<seed:think>"),
]


def stream(parser: ReasoningParser, deltas: list[str]) -> list[ReasoningEvent]:
    events = [event for delta in deltas for event in parser.feed(delta)]
    return [*events, *parser.finish()]


def split_whole(parser: ReasoningParser, text: str) -> ParsedText:
    return assemble(stream(parser, [text]))


@pytest.mark.parametrize(("name", "prompt", "text", "reasoning", "content"), CASES)
def test_split(name: str, prompt: str, text: str, reasoning: str, content: str) -> None:
    whole = split_whole(ReasoningParser(name, prompt), text)
    assert (whole.reasoning, whole.content) == (reasoning, content)
    assert assemble(stream(ReasoningParser(name, prompt), [*text])) == whole


@settings(max_examples=300)
@given(
    st.sampled_from(sorted(REASONING_PARSERS)),
    st.sampled_from([OPEN, CLOSED, ABSENT]),
    st.lists(
        st.sampled_from(PARTS),
        max_size=10,
    ),
    st.lists(st.integers(0, 10_000), max_size=20),
)
def test_splits_do_not_matter(name: str, prompt: str, parts: list[str], cuts: list[int]) -> None:
    text = "".join(parts)
    places = [0, *sorted({cut % (len(text) + 1) for cut in cuts}), len(text)]
    deltas = [text[a:b] for a, b in itertools.pairwise(places)]
    whole = split_whole(ReasoningParser(name, prompt), text)
    assert assemble(stream(ReasoningParser(name, prompt), deltas)) == whole
    assert (whole.reasoning, whole.content) == by_definition(name, prompt, text)


def by_definition(name: str, prompt: str, text: str) -> tuple[str, str]:
    form = REASONING_PARSERS[name]
    tagged = re.match(r"\s*(?:" + "|".join(map(re.escape, form.begins)) + ")", text)
    state = prompt_state(prompt, name)
    if not tagged and (state == "closed" or (state == "absent" and not form.always)):
        return "", text
    rest = text[tagged.end() :] if tagged else text
    end = re.search("|".join(map(re.escape, form.ends)), rest)
    return (rest[: end.start()], rest[end.end() :]) if end else (rest, "")


def test_passed_on_at_once() -> None:
    parser = ReasoningParser("qwen3", OPEN)
    assert parser.feed("We") == [ReasoningDelta("We")]
    assert parser.feed(" a <") == [ReasoningDelta(" a ")]
    assert parser.feed(" b") == [ReasoningDelta("< b")]
    assert parser.feed("</think") == []
    assert not parser.in_content
    assert parser.feed(">Yes") == [ContentDelta("Yes")]
    assert parser.in_content
    assert parser.feed(" <th") == [ContentDelta(" <th")]
    assert parser.finish() == []


@pytest.mark.parametrize(
    ("prompt", "continued", "expected"),
    [
        (OPEN, "", "open"),
        (CLOSED, "", "closed"),
        (ABSENT, "", "absent"),
        ("", "", "absent"),
        ("…assistant\n<think>\nfirst I", "<think>\nfirst I", "open"),
        ("…assistant\n<think>\na</think>b", "<think>\na</think>b", "closed"),
        ("…assistant\nplain", "plain", "absent"),
        ("[THINK]", "", "absent"),  # another parser's
    ],
)
def test_prompts(prompt: str, continued: str, expected: str) -> None:
    assert prompt_state(prompt, "qwen3", continued) == expected


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{% if '</think>' in content %}{{ content.split('</think>')[-1] }}", "qwen3"),
        ("{{ content.split('</think>') }}{% if not enable_thinking %}<think></think>", "qwen3"),
        ("{{ '<think></think>' + content }}<|tool_calls_section_begin|>", "kimi_k2"),
        ("{{ '[THINK]' + thought + '[/THINK]' }}", "mistral"),
        ("<seed:think>{{ thought }}</seed:think>", "seed_oss"),
        ("Here is my thought process: … Here is my response:", "granite"),
        ("{{ content }}", None),
    ],
)
def test_detected_from_the_template(template: str, expected: str | None) -> None:
    assert detect_reasoning_parser(template) == expected


def test_unknown_parser() -> None:
    with pytest.raises(ConfigError, match="unknown reasoning parser 'qwen4'; did you mean 'qwen3'"):
        ReasoningParser("qwen4")
