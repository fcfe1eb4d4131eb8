"""Calls that are JSON objects: `{"name": …, "arguments": {…}}`, alone, in a row or in a list."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest

from quire.core.structural_tags import JsonSchema, Tag
from quire.text.tools.calls import CallWriter
from quire.text.tools.reader import MalformedCall, Reader, Steps
from quire.text.tools.values import parsed, read_string, read_value
from quire.text.tools.ways import Tools, Way, object_schema

_ARGUMENT_KEYS = ("arguments", "parameters")


@dataclass(frozen=True, slots=True)
class JsonCalls:
    """Tags around JSON.

    Attributes:
        triggers: what announces calls, anywhere in the text.
        ends: what may follow them, in the order of `triggers`.
        bare: characters that are the beginning of calls at the very start of the text.
        special: the tags are special tokens, so the text must be decoded with these.
        argument_key, listed, padding, separator: how a model writes calls: the key of the
            arguments, whether in a list, what is between tags and JSON, and between two calls.
            Reading is lenient about all four.
    """

    triggers: tuple[str, ...]
    ends: tuple[str, ...] = ()
    bare: str = ""
    special: bool = False
    argument_key: str = "arguments"
    listed: bool = False
    padding: str = ""
    separator: str = "\n"

    def read(self, reader: Reader, calls: CallWriter, trigger: str) -> Steps[None]:
        """Calls, from behind the trigger to behind the end."""
        if (yield from reader.space()) == "[":
            yield from _list(reader, calls)
        else:
            yield from _row(reader, calls, strict=not trigger)
        yield from reader.accept(*self.ends)

    def ways(self, tools: Tools, chat_template: str) -> Iterator[Way]:
        """Bare, or between tags."""
        frames = [("", "")] if self.bare else []
        for begin, end in zip_longest(self.triggers, self.ends, fillvalue=""):
            frames.append((begin + self.padding, self.padding + end if end else ""))
        for begin, end in frames:
            if self.listed:
                listed = object_calls(tools, self.argument_key)
                yield Way(begin.strip() or "[", listed, begin + "[", ", ", "]" + end)
            elif self.bare and begin:
                row = begin, self.separator, end
                yield Way(begin.strip(), object_calls(tools, self.argument_key), *row)
            else:
                calls = object_calls(tools, self.argument_key, begin, end)
                yield Way(begin.strip() or '{"name": "', calls, separator=self.separator)


def object_calls(tools: Tools, key: str, begin: str = "", end: str = "") -> list[Tag]:
    """Each tool's call as an object, a tag."""
    return [
        Tag(
            f'{begin}{{"name": {json.dumps(name, ensure_ascii=False)}, "{key}": ',
            JsonSchema(object_schema(schema)),
            "}" + end,
        )
        for name, schema in tools.items()
    ]


def _list(reader: Reader, calls: CallWriter) -> Steps[None]:
    yield from reader.expect("[")
    while True:
        yield from reader.space()
        yield from _call(reader, calls)
        if (yield from reader.space()) == "]":
            reader.at += 1
            return
        yield from reader.expect(",")


def _row(reader: Reader, calls: CallWriter, strict: bool) -> Steps[None]:
    """Objects one after the other, perhaps with semicolons between."""
    while True:
        yield from _call(reader, calls, strict)
        follows = yield from reader.glance()
        if follows == ";":
            yield from reader.accept(";")
            if (yield from reader.glance()) == "":
                return
        elif follows != "{":
            return
        yield from reader.space()


def _call(reader: Reader, calls: CallWriter, strict: bool = False) -> Steps[None]:
    """One object. Keys may come in any order, others than name and arguments are passed over.

    Args:
        strict: both keys must be there, as nothing else tells a call from other JSON.
    """
    name = ""
    arguments: list[str] | None = None
    opened = False
    yield from reader.expect("{")
    follows = yield from reader.space()
    while follows != "}":
        key = yield from _string(reader)
        yield from reader.space()
        yield from reader.expect(":")
        value = yield from reader.space()
        if key == "name" and not name:
            name = yield from _string(reader)
            calls.check(name)
        elif key in _ARGUMENT_KEYS and arguments is None:
            arguments = []
            opened = bool(name) and value == "{"
            if opened:
                calls.open(name)
            yield from read_value(reader, calls.write if opened else arguments.append)
        else:
            yield from read_value(reader, _drop)
        follows = yield from reader.space()
        if follows == ",":
            reader.at += 1
            follows = yield from reader.space()
            if follows == "}":
                raise MalformedCall
        elif follows != "}":
            raise MalformedCall
    reader.at += 1
    if not opened:
        if strict and (arguments is None or not name):
            raise MalformedCall
        text = _object_text("".join(arguments or ()))
        calls.open(name)
        calls.write(text)
    calls.close()


def _string(reader: Reader) -> Steps[str]:
    pieces: list[str] = []
    yield from read_string(reader, pieces.append)
    return str(parsed("".join(pieces)))


def _object_text(text: str) -> str:
    """Arguments as an object's text: some models write the object as a string, or null."""
    if text.startswith('"'):
        text = str(parsed(text)).strip()
    if text in ("", "null"):
        return "{}"
    if not isinstance(parsed(text), dict):
        raise MalformedCall
    return text


def _drop(_: str) -> None:
    """For values nobody reads."""
