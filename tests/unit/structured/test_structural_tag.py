"""Structural tags in both shapes."""

from typing import Any

import pytest

from quire.core import structural_tags as tags
from quire.core.errors import RequestError
from quire.core.structured_outputs import StructuredOutputsParams
from quire.server.structured import after_text
from quire.structured.check import GrammarChecker

F = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
G = {"type": "object", "properties": {"s": {"enum": ["x", "y"]}}, "required": ["s"]}
LEGACY = {
    "structures": [
        {"begin": "<function=f>", "schema": F, "end": "</function>"},
        {"begin": "<function=g>", "schema": G, "end": "</function>"},
    ],
    "triggers": ["<function="],
}
CALL = tags.Tag("<tool_call>\n", tags.JsonSchema(F), "\n</tool_call>")
CALLS = tags.TriggeredTags(["<tool_call>"], [CALL])
ONE = tags.TriggeredTags(["<tool_call>"], [CALL], at_least_one=True, stop_after_first=True)
SOME = tags.TriggeredTags(["<tool_call>"], [CALL], at_least_one=True)
ONCE = tags.TriggeredTags(["<tool_call>"], [CALL], stop_after_first=True)
DONE = '<tool_call>\n{"n": 1}\n</tool_call>'
ANSWER = tags.Sequence(
    [tags.AnyText(excludes=["stop it"]), tags.Const("</think>"), tags.JsonSchema(F)]
)


@pytest.mark.parametrize(
    ("format_", "whole", "outcome"),
    [
        (CALLS, "just text", "accepted"),
        (CALLS, "", "accepted"),
        (CALLS, f"text {DONE}", "accepted"),
        (CALLS, f"text {DONE} and {DONE}", "accepted"),
        (CALLS, "text <tool_call>", "open"),
        (CALLS, "text <tool_call>x", "refused"),
        (CALLS, 'text <tool_call>\n{"n": "', "refused"),
        (CALLS, "text <tool> and <b>", "accepted"),
        (ONE, DONE, "complete"),
        (ONE, "text", "refused"),
        (SOME, DONE, "accepted"),
        (SOME, f"{DONE}\n{DONE}", "accepted"),
        (SOME, "text", "refused"),
        (ONCE, f"text {DONE}", "complete"),
        (ONCE, "text", "accepted"),
        (ANSWER, 'so, hm.</think>{"n": 2}', "complete"),
        (ANSWER, "so, hm.", "open"),
        (ANSWER, "so, stop it", "refused"),
        (ANSWER, "so</think>x", "refused"),
        (tags.AnyOf([tags.Const("a"), tags.Regex("[0-9]{2}")]), "12", "complete"),
        (tags.AnyOf([tags.Const("a"), tags.Regex("[0-9]{2}")]), "b", "refused"),
        (tags.Star(tags.Const("ab")), "abab", "accepted"),
        (tags.Plus(tags.Const("ab")), "", "open"),
        (tags.Optional(tags.Const("ab")), "ab", "complete"),
        (tags.Repeated(tags.Const("a"), 2, 3), "aa", "accepted"),
        (tags.Repeated(tags.Const("a"), 2, 3), "aaa", "complete"),
        (tags.Grammar('root ::= "x" | "y"'), "y", "complete"),
        (tags.Tag("<a>", tags.AnyText(), ["</a>", "</b>"]), "<a>hm</b>", "complete"),
        (tags.TagsWithSeparator([CALL], "\n", at_least_one=True), f"{DONE}\n{DONE}", "accepted"),
        (tags.TagsWithSeparator([CALL], "\n", at_least_one=True), "", "open"),
        (tags.TagsWithSeparator([CALL], "\n"), "", "accepted"),
        (tags.AnyText(max_chars=3), "abcd", "refused"),
        (tags.Dispatch([("<n>", tags.Regex("[0-9]"))]), "a <n>1 b", "accepted"),
        (tags.Dispatch([("<n>", tags.Regex("[0-9]"))]), "a <n>x", "refused"),
        (tags.Tag("<|im_start|>", tags.Regex("[0-9]")), "<|im_start|>1", "complete"),
        (tags.Token("<|im_start|>"), "<|im_start|>", "complete"),
        (tags.Token(1), "<|im_start|>", "complete"),
        (tags.Tag("<r>", CALLS, "</r>"), f"<r>hm {DONE} so</r>", "complete"),
        (tags.Tag("<r>", CALLS, "</r>"), "<r>hm</r>", "complete"),
    ],
)
def test_formats(text: Any, format_: tags.Format, whole: str, outcome: str) -> None:
    assert text.follow(whole, structural_tag=tags.structural_tag(format_)) == outcome


@pytest.mark.parametrize(
    ("whole", "outcome"),
    [
        ('hello <function=f>{"n": 3}</function> bye', "accepted"),
        ('hello <function=g>{"s": "x"}</function>', "accepted"),
        ('hello <function=g>{"s": "z"', "refused"),
        ("hello <function=h", "refused"),
        ("hello <funny>", "accepted"),
    ],
)
def test_the_older_shape(text: Any, whole: str, outcome: str) -> None:
    assert text.follow(whole, structural_tag=LEGACY) == outcome


def test_reasoning_first(text: Any) -> None:
    for constraint, rest in (
        ({"json": F}, '{"n": 1}'),
        ({"regex": "[0-9]{2}"}, "12"),
        ({"choice": ["a", "b"]}, "b"),
        ({"grammar": 'start: "q"'}, "q"),
        ({"json_object": True}, "{}"),
        ({"structural_tag": tags.structural_tag(ONE)}, DONE),
        ({"structural_tag": LEGACY}, "anything"),
    ):
        after = after_text("</think>", StructuredOutputsParams(**constraint))  # type: ignore[arg-type]
        ended = text.follow(f"let me see</think>{rest}", structural_tag=after.structural_tag)
        assert ended in ("complete", "accepted")
        wrong = text.follow("let me see</think>\x01", structural_tag=after.structural_tag)
        assert wrong == ("accepted" if constraint.get("structural_tag") == LEGACY else "refused")


@pytest.mark.parametrize(
    ("tag", "reason"),
    [
        ("nothing", "not valid JSON"),
        ([], "must be an object, or its text"),
        ({}, 'needs "format"'),
        ({"format": {"type": "poem"}}, "'poem' - at `.*type`; known types are any_text"),
        ({"format": {"type": "tag", "begin": "<a>", "end": "</a>"}}, "required field `content`"),
        ({"format": {"type": "const_string", "value": 5}}, "Expected `str`, got `int`"),
        ({"format": {"type": "sequence", "elements": []}}, "length >= 1 - at `.*elements`"),
        (tags.structural_tag(tags.Repeated(CALL, 2, 1)), "repeats 2 to 1"),
        ({"format": {"type": "json_schema", "json_schema": {}, "style": "qwen_xml"}}, "qwen_xml"),
        ({"structures": LEGACY["structures"], "triggers": ["<other"]}, "no trigger begins"),
        ({"format": {"type": "any_text", "max_tokens": 3}}, "max_tokens"),
    ],
)
def test_what_is_refused(tag: Any, reason: str) -> None:
    with pytest.raises(RequestError, match=reason) as caught:
        GrammarChecker({}).check(StructuredOutputsParams(structural_tag=tag))
    assert caught.value.parameter == "structural_tag"
