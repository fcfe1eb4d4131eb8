"""Masks allow exactly the tokens after which the text can still be completed."""

import random
import re
from typing import Any

import pytest

from quire.structured.vocabulary import Vocabulary
from quire.text.tokenizer import Tokenizer

# (regex, regex of its prefixes): Python's `re` is the oracle.
REGEXES = [
    (r"[0-9]{3}-[0-9]{4}", r"[0-9]{0,3}|[0-9]{3}-[0-9]{0,4}"),
    (r"(yes|no|yesterday)", r"y?|ye|yes|yest|yeste|yester|yesterd|yesterda|yesterday|n|no"),
    (r"[a-f]+(, [a-f]+)*", r"|[a-f]+(, [a-f]+)*(,|, )?"),
    (r"-?(0|[1-9][0-9]*)(\.[0-9]+)?", r"-?|-?(0|[1-9][0-9]*)(\.[0-9]*)?"),
    (r"#[0-9A-F]{6}", r"|#[0-9A-F]{0,6}"),
    (r"(ab|abc)*d?", r"(ab|abc)*(a|ab|d)?"),
    (r'"[^"\\\n]*"', r'|"[^"\\\n]*"?'),
    (r"한국|서울시?", r"|한|한국|서|서울|서울시"),
]


@pytest.mark.parametrize(("regex", "prefixes"), REGEXES)
def test_masks_are_exact(
    text: Any, tokenizer: Tokenizer, vocabulary: Vocabulary, regex: str, prefixes: str
) -> None:
    """Whatever way a text is cut into tokens; forced texts would be cut in one way only."""
    whole, part = re.compile(regex), re.compile(prefixes)
    pieces = tokenizer.pieces(skip_special_tokens=False)
    assert pieces is not None
    special = tokenizer.special_ids
    tokens = {i: pieces[i] for i in range(tokenizer.max_token_id + 1) if i not in special}
    grammar = '%llguidance {"no_forcing": true}\nstart: /' + regex.replace("/", r"\/") + "/"
    choose = random.Random(regex)
    for _ in range(3):
        matcher = text.matcher(grammar=grammar)
        written = b""
        for _ in range(8):
            allowed = text.allowed(matcher)
            eos = set(vocabulary.eos_token_ids)
            expected = {
                i for i, piece in tokens.items() if piece and is_prefix(part, written + piece)
            }
            assert allowed - eos == expected, f"after {written!r}"
            fits = whole.fullmatch(written.decode("utf-8", "replace")) is not None
            assert (eos <= allowed) == fits
            assert all(i <= tokenizer.max_token_id for i in allowed), "a padding id is allowed"
            if not expected:
                break
            token_id = choose.choice(sorted(expected))
            written += tokens[token_id]
            matcher.consume([token_id])


def is_prefix(part: "re.Pattern[str]", written: bytes) -> bool:
    """Whether some completion of these bytes fits; a cut character may become any other."""
    try:
        return part.fullmatch(written.decode("utf-8")) is not None
    except UnicodeDecodeError as error:
        if error.reason != "unexpected end of data":
            return False
        known, cut = written[: error.start].decode("utf-8"), written[error.start :]
        return any(
            part.fullmatch(known + char) for char in completions(cut) if len(known + char) < 40
        )


def completions(cut: bytes) -> list[str]:
    """Characters of interest that begin with these bytes, and one that no pattern names."""
    named = "한국서울시"
    found = [c for c in named if c.encode("utf-8").startswith(cut)]
    for tail in (b"\x80", b"\xbf", b"\x80\x80", b"\xbf\xbf", b"\x90\x80\x80", b"\x80\x80\x80"):
        try:
            found.append((cut + tail).decode("utf-8"))
        except UnicodeDecodeError:
            continue
    return found


@pytest.mark.parametrize(("regex", "prefixes"), REGEXES)
def test_forced_texts_stay_within(
    text: Any, tokenizer: Tokenizer, regex: str, prefixes: str
) -> None:
    """As compiled for a request: never a token too many, and always one."""
    part = re.compile(prefixes)
    pieces = tokenizer.pieces(skip_special_tokens=False)
    assert pieces is not None
    choose = random.Random(regex)
    for _ in range(3):
        matcher, written = text.matcher(regex=regex), b""
        for _ in range(8):
            allowed = text.allowed(matcher) - {0, 2}
            assert all(is_prefix(part, written + pieces[i]) for i in allowed)
            if matcher.complete or not allowed:
                assert re.fullmatch(regex, written.decode())
                break
            token_id = choose.choice(sorted(allowed))
            written += pieces[token_id]
            matcher.consume([token_id])


@pytest.mark.parametrize(
    ("constraint", "whole", "outcome"),
    [
        ({"regex": "^ab$"}, "ab", "complete"),
        ({"regex": "a/b"}, "a/b", "complete"),
        ({"regex": "a+"}, "aaa", "accepted"),
        ({"regex": "(?i)yes"}, "YeS", "complete"),
        ({"regex": r"\d"}, "٣", "refused"),
        ({"regex": "<tool_call>x"}, "<tool_call>x", "complete"),
        ({"choice": ["yes", "yesterday"]}, "yes", "accepted"),
        ({"choice": ['a"b\\c\n\x7f😀', "other"]}, 'a"b\\c\n\x7f😀', "complete"),
        ({"choice": ["yes", "no"]}, "maybe", "refused"),
        ({"grammar": 'start: "x" NUMBER\nNUMBER: /[0-9]+/'}, "x12", "accepted"),
        ({"grammar": 'root ::= item+ "."\nitem ::= "a" | "b"'}, "abba.", "complete"),
        ({"grammar": 'root ::= item+ "."\nitem ::= "a" | "b"'}, "abc", "refused"),
        ({"grammar": 'start: "v=" json\njson: %json {"type": "integer"}'}, "v=12", "accepted"),
        ({"json_object": True}, '{"a": [1, {"b": null}]}', "complete"),
        ({"json_object": True}, "[1]", "refused"),
        ({"json": {}}, "[1, true]", "complete"),
        ({"json": "{}"}, '"text"', "complete"),
        ({"json": {"type": "string", "format": "unheard-of"}}, '"x"', "complete"),
        ({"json": {"oneOf": [{"type": "integer"}, {"minimum": 5}]}}, "7", "accepted"),
    ],
)
def test_kinds(text: Any, constraint: dict[str, Any], whole: str, outcome: str) -> None:
    assert text.follow(whole, **constraint) == outcome


OBJECT = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "array", "items": {"type": "integer"}}},
    "required": ["a", "b"],
}


@pytest.mark.parametrize(
    ("options", "whole", "outcome"),
    [
        ({}, '{"a": 1, "b": [1, 2]}', "complete"),
        ({}, '{"a":1,"b":[]}', "complete"),
        ({}, '{\n  "a": 1,\n  "b": [\n    1\n  ]\n}', "complete"),
        ({}, '{\n\t"a": 1,\n\t"b": []\n}', "complete"),
        ({}, '{"a":  1', "refused"),
        ({}, '{\n\n"a"', "refused"),
        ({}, "{\n" + " " * 25, "refused"),
        ({"disable_any_whitespace": True}, '{"a":1,"b":[1,2]}', "complete"),
        ({"disable_any_whitespace": True}, '{"a": 1', "refused"),
        ({"whitespace_pattern": "[ ]{0,3}"}, '{"a":   1, "b":[]}', "complete"),
        ({"whitespace_pattern": "[ ]{0,3}"}, '{"a":    1', "refused"),
        ({"whitespace_pattern": "[ ]{0,3}"}, '{\n"a"', "refused"),
        ({}, '{"a": 1, "b": [], "c": 3}', "complete"),
        ({"disable_additional_properties": True}, '{"a": 1, "b": [], "c"', "refused"),
        ({"disable_additional_properties": True}, '{"a": 1, "b": []}', "complete"),
    ],
)
def test_how_json_is_written(text: Any, options: dict[str, Any], whole: str, outcome: str) -> None:
    assert text.follow(whole, json=OBJECT, **options) == outcome


def test_a_grammar_that_allows_nothing(text: Any) -> None:
    with pytest.raises(Exception, match="allows no text"):
        text.matcher(json={"$ref": "#"}).next_mask()
