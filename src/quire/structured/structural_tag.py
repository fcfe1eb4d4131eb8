"""Structural tags: free text with constrained parts between tags, as a grammar.

Free text before a tag ends where the tag begins: it is matched lazily up to there.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from quire.core import structural_tags as forms
from quire.core.errors import RequestError
from quire.structured.json_schema import JsonStyle, check_depth, parse_json
from quire.structured.lark import LarkWriter, quoted, token_reference
from quire.structured.limits import MAX_SCHEMA_BYTES

FIELD = "structural_tag"

_ANY = "(?s:.*)"  # any character, line breaks included
# Formats that go on until what follows them begins.
_FREE = (forms.AnyText, forms.TriggeredTags, forms.Dispatch)


class Structure(msgspec.Struct):
    """A tag of the older shape."""

    begin: str
    end: str
    schema: dict[str, Any] | bool = True


class Older(msgspec.Struct):
    structures: Annotated[list[Structure], Meta(min_length=1)]
    triggers: list[str]


def read_structural_tag(value: str | dict[str, Any]) -> forms.Format:
    """The outermost format, whichever of the two shapes it has.

    Raises:
        RequestError: it has none, or is nested too deep.
    """
    if isinstance(value, str):
        value = parse_json(value, FIELD, 4 * MAX_SCHEMA_BYTES)
    check_depth(value, FIELD)
    try:
        if isinstance(value, dict) and "format" in value:
            return msgspec.convert(value["format"], forms.Format)
        older = msgspec.convert(value, Older)
    except msgspec.ValidationError as error:
        raise RequestError(f"{FIELD}: {_explained(str(error))}", FIELD) from None
    tags = [forms.Tag(s.begin, forms.JsonSchema(s.schema), s.end) for s in older.structures]
    return forms.TriggeredTags(older.triggers, tags)


def _explained(problem: str) -> str:
    if problem.endswith(".type`"):
        known = sorted(str(each.__struct_config__.tag) for each in forms.Format.__args__)
        return f"{problem}; known types are {', '.join(known)}"
    if "`structures`" in problem:
        return 'it needs "format", or "structures" and "triggers"'
    return problem


def structural_tag_grammar(
    value: str | dict[str, Any], special_tokens: Mapping[str, int], style: JsonStyle
) -> str:
    """The grammar of a structural tag.

    Raises:
        RequestError: it is not one, or is beyond the limits.
    """
    writer = LarkWriter(special_tokens, style)
    return writer.finish(_Expressions(writer).of(read_structural_tag(value)))


class _Expressions:
    """Grammar expressions for formats."""

    def __init__(self, writer: LarkWriter) -> None:
        self._writer = writer

    def of(self, format_: forms.Format) -> str:
        writer = self._writer
        match format_:
            case forms.AnyText():
                return writer.terminal(_text(format_))
            case forms.Const(value):
                return writer.literal(value)
            case forms.Regex(pattern):
                return writer.regex(pattern, FIELD)
            case forms.Grammar(grammar):
                return writer.grammar(grammar, FIELD)
            case forms.JsonSchema(schema):
                return writer.json(schema, FIELD)
            case forms.Token(token):
                return self._token(token)
            case forms.Repeated(content, low, high):
                if low > high >= 0:
                    raise _error(f"repeats {low} to {high} times; min must be at most max")
                return f"{writer.rule(self.of(content))}{{{low},{'' if high < 0 else high}}}"
            case forms.Optional(content):
                return writer.rule(self.of(content)) + "?"
            case forms.Star(content):
                return writer.rule(self.of(content)) + "*"
            case forms.Plus(content):
                return writer.rule(self.of(content)) + "+"
            case forms.AnyOf(elements):
                return writer.rule(" | ".join(map(self.of, elements)))
            case forms.Sequence(elements):
                return self._sequence(elements)
            case forms.Tag():
                return f"{self._begin(format_)} {self._rest_of_tag(format_)}"
            case forms.TagsWithSeparator():
                return self._row(format_)
            case forms.TriggeredTags() | forms.Dispatch():
                return self._triggered(format_, [])

    def _sequence(self, elements: list[forms.Format]) -> str:
        parts: list[str] = []
        begun = False  # the beginning of this element was taken in by the text before it
        for element, following in zip(elements, [*elements[1:], None]):
            end = _beginning(following) if isinstance(element, _FREE) and not begun else ""
            if begun:
                if isinstance(element, forms.Tag):
                    parts.append(self._rest_of_tag(element))
            elif end:
                parts.append(self._free_until(element, [end]))
            else:
                parts.append(self.of(element))
            begun = bool(end)
        return self._writer.rule(" ".join(parts))

    def _token(self, token: int | str) -> str:
        if isinstance(token, int):
            return token_reference(token)
        return self._writer.literal(token)

    # --- free text ---

    def _free_until(self, format_: forms.Format, ends: list[str]) -> str:
        """Free text, and the first of `ends` after it."""
        if isinstance(format_, forms.AnyText):
            return self._text_until(self._writer.terminal(_text(format_)), ends)
        assert isinstance(format_, forms.TriggeredTags | forms.Dispatch)
        return self._triggered(format_, ends)

    def _text_until(self, text: str, ends: list[str]) -> str:
        writer = self._writer
        special = [end for end in ends if writer.holds_special_token(end)]
        plain = [quoted(end) for end in ends if end not in special]
        choices = [f"{text} {writer.literal(end)}" for end in special]
        if plain:
            choices.append(writer.rule(f"{text} ({' | '.join(plain)})", lazy=True))
        return choices[0] if len(choices) == 1 else writer.rule(" | ".join(choices))

    # --- tags ---

    def _begin(self, tag: forms.Tag) -> str:
        begin = tag.begin
        return (
            self._token(begin.token)
            if isinstance(begin, forms.Token)
            else self._writer.literal(begin)
        )

    def _rest_of_tag(self, tag: forms.Tag) -> str:
        """Content and end."""
        writer, end = self._writer, tag.end
        if isinstance(end, forms.Token) and isinstance(end.token, int):
            return writer.rule(f"{self.of(tag.content)} {token_reference(end.token)}")
        ends = (
            [end.token] if isinstance(end, forms.Token) else [end] if isinstance(end, str) else end
        )
        texts = [str(each) for each in ends]
        if isinstance(tag.content, _FREE) and any(texts):
            return self._free_until(tag.content, [text for text in texts if text])
        closing = " | ".join(map(writer.literal, texts or [""]))
        return writer.rule(f"{self.of(tag.content)} ({closing})")

    def _row(self, format_: forms.TagsWithSeparator) -> str:
        writer = self._writer
        one = writer.rule(" | ".join(map(self.of, format_.tags)))
        if not format_.stop_after_first:
            one = writer.rule(f"{one} ({writer.literal(format_.separator)} {one})*")
        return one if format_.at_least_one else f"{one}?"

    def _triggered(self, format_: forms.TriggeredTags | forms.Dispatch, ends: list[str]) -> str:
        """Free text with triggers in it.

        Args:
            ends: where the free text must end; empty: with the whole text.
        """
        writer = self._writer
        if isinstance(format_, forms.Dispatch):
            format_ = _as_triggered(format_)
        text = writer.terminal(_text(forms.AnyText(excludes=format_.excludes)))
        bodies = {t: self._after_trigger(t, tags) for t, tags in _by_trigger(format_).items()}
        at_once = writer.rule(" | ".join(f"{writer.literal(t)} {b}" for t, b in bodies.items()))
        after_text = writer.rule(
            " | ".join(f"{self._text_until(text, [t])} {b}" for t, b in bodies.items())
        )
        tail = self._text_until(text, ends) if ends else text
        close = f"({' | '.join(map(writer.literal, ends))})" if ends else ""
        if not format_.stop_after_first:
            first = at_once if format_.at_least_one else ""
            return writer.rule(f"{first} {after_text}* {tail}")
        if format_.at_least_one:
            return writer.rule(f"{at_once} {close}")
        return writer.rule(f"{after_text} {close} | {tail}")

    def _after_trigger(self, trigger: str, tags: list[forms.Tag]) -> str:
        rests = [
            f"{self._writer.literal(str(tag.begin)[len(trigger) :])} {self._rest_of_tag(tag)}"
            for tag in tags
        ]
        return self._writer.rule(" | ".join(rests))


def _text(format_: forms.AnyText) -> str:
    """A terminal's expression."""
    limit = format_.max_chars
    text = _ANY if limit is None else f"(?s:.{{0,{limit}}})"
    if not format_.excludes:
        return f"/{text}/"
    any_of = " | ".join(map(quoted, format_.excludes))
    return f"/{text}/ & ~(/{_ANY}/ ({any_of}) /{_ANY}/)"


def _beginning(following: forms.Format | None) -> str:
    """The text with which a format always begins, if it is such a format."""
    if isinstance(following, forms.Const):
        return following.value
    return (
        following.begin
        if isinstance(following, forms.Tag) and isinstance(following.begin, str)
        else ""
    )


def _as_triggered(format_: forms.Dispatch) -> forms.TriggeredTags:
    """A trigger is all of its tag's beginning."""
    return forms.TriggeredTags(
        [text for text, _ in format_.rules],
        [forms.Tag(text, content) for text, content in format_.rules],
        stop_after_first=not format_.loop,
        excludes=format_.excludes,
    )


def _by_trigger(format_: forms.TriggeredTags) -> dict[str, list[forms.Tag]]:
    """Each trigger's tags: those that begin with it."""
    groups: dict[str, list[forms.Tag]] = {trigger: [] for trigger in format_.triggers if trigger}
    for tag in format_.tags:
        begin = tag.begin if isinstance(tag.begin, str) else ""
        found = [trigger for trigger in groups if begin.startswith(trigger)]
        if not found:
            raise _error(f"has a tag that begins with {tag.begin!r:.80}, which no trigger begins")
        groups[max(found, key=len)].append(tag)
    return {trigger: tags for trigger, tags in groups.items() if tags}


def _error(problem: str) -> RequestError:
    return RequestError(f"{FIELD} {problem}", FIELD)
