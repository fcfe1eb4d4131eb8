"""Structural tags: free text with constrained parts between tags, as a grammar.

The request's JSON is a tree of formats ({"type": "structural_tag", "format": ...}, the shape
that vLLM takes) or the older {"structures": [...], "triggers": [...]}. `tags` builds such trees.
Free text before a tag ends where the tag begins: it is matched lazily up to there.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from quire.core.errors import RequestError
from quire.structured.json_schema import JsonStyle, check_depth, parse_json
from quire.structured.lark import ANY_TEXT, LarkWriter, quoted, token_reference
from quire.structured.limits import MAX_SCHEMA_BYTES

_FIELD = "structural_tag"
MAX_REPEAT = 1000

Format = Mapping[str, Any]


def structural_tag_grammar(
    value: str | dict[str, Any], special_tokens: Mapping[str, int], style: JsonStyle
) -> str:
    """The grammar of a structural tag.

    Raises:
        RequestError: it is not one, names an unknown format, or is beyond the limits.
    """
    writer = LarkWriter(special_tokens, style)
    return writer.finish(_Formats(writer).expression(outermost_format(value)))


def outermost_format(value: str | dict[str, Any]) -> Format:
    """The format of a structural tag, whichever of the two shapes it has."""
    if isinstance(value, str):
        value = parse_json(value, _FIELD, 4 * MAX_SCHEMA_BYTES)
    if not isinstance(value, dict):
        raise _error("must be an object")
    check_depth(value, _FIELD)
    if "format" in value:
        return _object(value["format"], "format")
    if "structures" in value:
        tags = [
            {
                "begin": _text(s, "begin"),
                "content": {"type": "json_schema", "json_schema": s.get("schema", {})},
                "end": _text(s, "end"),
            }
            for s in (_object(s, "structures") for s in _list(value, "structures"))
        ]
        return {"type": "triggered_tags", "tags": tags, "triggers": _list(value, "triggers")}
    raise _error('needs "format", or "structures" and "triggers"')


class _Formats:
    """One method a format; each gives a grammar expression for it."""

    def __init__(self, writer: LarkWriter) -> None:
        self._writer = writer
        self._methods: dict[str, Callable[[Format], str]] = {
            "any_text": self._any_text,
            "const_string": lambda f: writer.literal(_text(f, "value")),
            "dispatch": self._dispatch,
            "grammar": lambda f: writer.grammar(_text(f, "grammar"), _FIELD),
            "json_schema": self._json_schema,
            "optional": lambda f: self._repeated(f, "?"),
            "or": lambda f: self._grouped(self._elements(f), " | "),
            "plus": lambda f: self._repeated(f, "+"),
            "regex": lambda f: writer.regex(_text(f, "pattern"), _FIELD),
            "repeat": self._repeat,
            "sequence": self._sequence,
            "star": lambda f: self._repeated(f, "*"),
            "tag": lambda f: self._begin(f) + " " + self._rest_of_tag(f),
            "tags_with_separator": self._tags_with_separator,
            "token": self._token,
            "triggered_tags": lambda f: self._triggered(f, []),
        }

    def expression(self, format_: Any) -> str:
        """Any format."""
        fields = _object(format_, "format")
        kind = fields.get("type")
        method = self._methods.get(kind) if isinstance(kind, str) else None
        if method is None:
            known = ", ".join(self._methods)
            raise _error(f"has a format of type {kind!r}; known are {known}")
        return method(fields)

    # --- composition ---

    def _elements(self, format_: Format) -> list[str]:
        return [self.expression(element) for element in _list(format_, "elements", least=1)]

    def _grouped(self, expressions: list[str], joint: str) -> str:
        return self._writer.rule(joint.join(expressions))

    def _repeated(self, format_: Format, sign: str) -> str:
        return self._writer.rule(self.expression(format_.get("content"))) + sign

    def _repeat(self, format_: Format) -> str:
        low, high = _integer(format_, "min"), _integer(format_, "max")
        if not 0 <= low <= MAX_REPEAT or not (high == -1 or low <= high <= MAX_REPEAT):
            raise _error(f"repeats {low} to {high} times; counts must be in [0, {MAX_REPEAT}]")
        bounds = f"{{{low},{'' if high == -1 else high}}}"
        return self._writer.rule(self.expression(format_.get("content"))) + bounds

    def _sequence(self, format_: Format) -> str:
        """Free text in it ends where the text of the next element begins."""
        elements = [_object(e, "elements") for e in _list(format_, "elements", least=1)]
        parts: list[str] = []
        begun = False  # the beginning of this element was taken in by the text before it
        for element, following in zip(elements, [*elements[1:], None]):
            if begun:
                begun = False
                if element["type"] == "tag":
                    parts.append(self._rest_of_tag(element))
                continue
            ends = _beginnings(following) if element.get("type") in _FREE else []
            if ends:
                parts.append(self._free_until(element, ends))
                begun = True
            else:
                parts.append(self.expression(element))
        return self._writer.rule(" ".join(parts) or '""')

    # --- free text ---

    def _any_text(self, format_: Format) -> str:
        return self._text_terminal(format_)

    def _text_terminal(self, format_: Format) -> str:
        if format_.get("max_tokens") is not None:
            raise _error("any_text with max_tokens is not supported; use max_chars")
        text = ANY_TEXT
        if format_.get("max_chars") is not None:
            limit = _integer(format_, "max_chars")
            if not 0 <= limit <= 1_000_000:
                raise _error(f"max_chars must be in [0, 1000000], got {limit}")
            text = f"(?s:.{{0,{limit}}})"
        excluded = _texts(format_, "excludes")
        if not excluded:
            return self._writer.terminal(f"/{text}/")
        any_of = " | ".join(map(quoted, excluded))
        return self._writer.terminal(f"/{text}/ & ~(/{ANY_TEXT}/ ({any_of}) /{ANY_TEXT}/)")

    def _free_until(self, format_: Format, ends: list[str]) -> str:
        """Free text, and the first of `ends` after it."""
        if format_.get("type") == "triggered_tags":
            return self._triggered(format_, ends)
        if format_.get("type") == "dispatch":
            return self._triggered(_as_triggered(format_), ends)
        return self._text_until(self._text_terminal(format_), ends)

    def _text_until(self, text: str, ends: list[str]) -> str:
        writer = self._writer
        choices = []
        plain = [quoted(end) for end in ends if not writer.holds_special_token(end)]
        if plain:
            choices.append(writer.rule(f"{text} ({' | '.join(plain)})", lazy=True))
        choices += [
            f"{text} {writer.literal(end)}" for end in ends if writer.holds_special_token(end)
        ]
        return choices[0] if len(choices) == 1 else writer.rule(" | ".join(choices))

    # --- tags ---

    def _begin(self, tag: Format) -> str:
        begin = tag.get("begin")
        if isinstance(begin, dict):
            return self._token(begin)
        return self._writer.literal(_text(tag, "begin"))

    def _ends(self, tag: Format) -> list[str]:
        """The texts a tag may end with; a token's is its own."""
        end = tag.get("end")
        if isinstance(end, dict) and isinstance(end.get("token"), str):
            return [end["token"]]
        return [_text(tag, "end")] if isinstance(end, str) else _texts(tag, "end")

    def _rest_of_tag(self, tag: Format) -> str:
        """Content and end."""
        writer = self._writer
        content = _object(tag.get("content"), "content")
        end = tag.get("end")
        if isinstance(end, dict) and not isinstance(end.get("token"), str):
            return writer.rule(f"{self.expression(content)} {self._token(end)}")
        ends = self._ends(tag)
        if content.get("type") in _FREE and any(ends):
            return self._free_until(content, [e for e in ends if e])
        closing = " | ".join(map(writer.literal, ends)) if ends else '""'
        return writer.rule(f"{self.expression(content)} ({closing})")

    def _tags_with_separator(self, format_: Format) -> str:
        writer = self._writer
        tags = [_object(t, "tags") for t in _list(format_, "tags", least=1)]
        one = writer.rule(" | ".join(f"{self._begin(t)} {self._rest_of_tag(t)}" for t in tags))
        if not format_.get("stop_after_first"):
            one = writer.rule(f"{one} ({writer.literal(_text(format_, 'separator'))} {one})*")
        return one if format_.get("at_least_one") else f"{one}?"

    def _dispatch(self, format_: Format) -> str:
        return self._triggered(_as_triggered(format_), [])

    def _triggered(self, format_: Format, ends: list[str]) -> str:
        """Free text in which a trigger must go on as one of its tags does.

        Args:
            ends: where the free text must end; empty: with the whole text.
        """
        writer = self._writer
        text = self._text_terminal({"excludes": format_.get("excludes")})
        groups = _by_trigger(format_)
        bodies = {t: self._after_trigger(t, tags) for t, tags in groups.items()}
        at_once = writer.rule(
            " | ".join(f"{writer.literal(t)} {body}" for t, body in bodies.items())
        )
        after_text = writer.rule(
            " | ".join(f"{self._text_until(text, [t])} {body}" for t, body in bodies.items())
        )
        tail = self._text_until(text, ends) if ends else text
        close = f"({' | '.join(map(writer.literal, ends))})" if ends else ""
        first, once = format_.get("at_least_one"), format_.get("stop_after_first")
        if first and once:
            return writer.rule(f"{at_once} {close}")
        if first:
            return writer.rule(f"{at_once} {after_text}* {tail}")
        if once:
            return writer.rule(f"{after_text} {close} | {tail}")
        return writer.rule(f"{after_text}* {tail}")

    def _after_trigger(self, trigger: str, tags: list[Format]) -> str:
        writer = self._writer
        rests = []
        for tag in tags:
            begin = writer.literal(_text(tag, "begin")[len(trigger) :])
            rests.append(f"{begin} {self._rest_of_tag(tag)}")
        return writer.rule(" | ".join(rests))

    # --- leaves ---

    def _json_schema(self, format_: Format) -> str:
        style = format_.get("style", "json")
        if style != "json":
            raise _error(f"has a json_schema of style {style!r}; only 'json' is supported")
        return self._writer.json(format_.get("json_schema", {}), _FIELD)

    def _token(self, format_: Format) -> str:
        token = format_.get("token")
        if isinstance(token, str):
            token_id = self._writer.special_token(token)
            return self._writer.literal(token) if token_id is None else token_reference(token_id)
        if isinstance(token, bool) or not isinstance(token, int) or token < 0:
            raise _error(f"has a token that is neither an id nor a text: {token!r:.80}")
        return token_reference(token)


# Formats that go on until what follows them begins.
_FREE = ("any_text", "triggered_tags", "dispatch")


def _beginnings(following: Format | None) -> list[str]:
    """The text with which a format always begins, if it is such a format."""
    kind = None if following is None else following.get("type")
    if following is not None and kind in ("const_string", "tag"):
        begin = following.get("value" if kind == "const_string" else "begin")
        if isinstance(begin, str) and begin:
            return [begin]
    return []


def _as_triggered(format_: Format) -> Format:
    """`dispatch` is a triggered tag whose trigger is all of its beginning, without an end."""
    tags = []
    for rule in _list(format_, "rules", least=1):
        if not isinstance(rule, list) or len(rule) != 2 or not isinstance(rule[0], str):
            raise _error('needs "rules" of [text, format]')
        tags.append({"begin": rule[0], "content": rule[1], "end": ""})
    return {
        "tags": tags,
        "triggers": [tag["begin"] for tag in tags],
        "stop_after_first": not format_.get("loop", True),
        "excludes": format_.get("excludes"),
    }


def _by_trigger(format_: Format) -> dict[str, list[Format]]:
    """Each trigger's tags: those that begin with it."""
    triggers = _texts(format_, "triggers")
    groups: dict[str, list[Format]] = {trigger: [] for trigger in triggers if trigger}
    for tag in (_object(t, "tags") for t in _list(format_, "tags", least=1)):
        begin = _text(tag, "begin")
        found = [trigger for trigger in groups if begin.startswith(trigger)]
        if not found:
            raise _error(f"has a tag that begins with {begin!r:.80}, which no trigger begins")
        groups[max(found, key=len)].append(tag)
    return {trigger: tags for trigger, tags in groups.items() if tags}


# --- reading the request's JSON ---


def _error(problem: str) -> RequestError:
    return RequestError(f"{_FIELD} {problem}", _FIELD)


def _object(value: Any, where: str) -> Format:
    if not isinstance(value, dict):
        raise _error(f"needs an object as {where}, got {value!r:.80}")
    return value


def _list(fields: Format, name: str, least: int = 0) -> Sequence[Any]:
    value = fields.get(name)
    if not isinstance(value, list) or len(value) < least:
        raise _error(f'needs a list as "{name}"{" that is not empty" if least else ""}')
    return value


def _text(fields: Format, name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise _error(f'needs a text as "{name}", got {value!r:.80}')
    return value


def _texts(fields: Format, name: str) -> list[str]:
    value = fields.get(name) or []
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise _error(f'needs a list of texts as "{name}", got {value!r:.80}')
    return value


def _integer(fields: Format, name: str) -> int:
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _error(f'needs an integer as "{name}", got {value!r:.80}')
    return value
