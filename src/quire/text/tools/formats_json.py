"""Calls that are JSON objects: `{"name": …, "arguments": {…}}`, alone, in a row or in a list."""

import json
from dataclasses import dataclass

from quire.text.tools.calls import CallWriter
from quire.text.tools.json_text import read_string, read_value
from quire.text.tools.reader import MalformedCall, Reader, Steps

_ARGUMENT_KEYS = ("arguments", "parameters")


@dataclass(frozen=True, slots=True)
class JsonCalls:
    """Tags around JSON.

    Attributes:
        begins: what announces calls, anywhere in the text.
        ends: what may follow them. Of both, the first is what a grammar asks for.
        bare: characters that are the beginning of calls at the very start of the text.
        special: the tags are special tokens, so the text must be decoded with these.
        argument_key, listed, padding, separator: how a model writes calls: the key of the
            arguments, whether in a list, what is between tags and JSON, and between two calls.
            Reading is lenient about all four.
    """

    begins: tuple[str, ...]
    ends: tuple[str, ...] = ()
    bare: str = ""
    special: bool = False
    argument_key: str = "arguments"
    listed: bool = False
    padding: str = ""
    separator: str = "\n"

    @property
    def triggers(self) -> tuple[str, ...]:
        return self.begins

    def read(self, reader: Reader, calls: CallWriter, trigger: str) -> Steps[None]:
        """Calls, from behind the trigger to behind the end."""
        yield from reader.space()
        if reader.text[reader.at] == "[":
            yield from _list(reader, calls)
        else:
            yield from _row(reader, calls, strict=not trigger)
        yield from reader.accept(*self.ends)


def _list(reader: Reader, calls: CallWriter) -> Steps[None]:
    yield from reader.expect("[")
    while True:
        yield from reader.space()
        yield from _call(reader, calls)
        yield from reader.space()
        if reader.text[reader.at] == "]":
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
    yield from reader.space()
    while reader.text[reader.at] != "}":
        key = yield from _string(reader)
        yield from reader.space()
        yield from reader.expect(":")
        yield from reader.space()
        if key == "name" and not name:
            name = yield from _string(reader)
            calls.check(name)
        elif key in _ARGUMENT_KEYS and arguments is None:
            arguments = []
            if name and reader.text[reader.at] == "{":
                opened = True
                calls.open(name)
                yield from read_value(reader, calls.write)
            else:
                yield from read_value(reader, arguments.append)
        else:
            yield from read_value(reader, _drop)
        yield from reader.space()
        if reader.text[reader.at] == ",":
            reader.at += 1
            yield from reader.space()
            if reader.text[reader.at] != '"':
                raise MalformedCall
        elif reader.text[reader.at] != "}":
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
    text: str = json.loads("".join(pieces))
    return text


def _object_text(text: str) -> str:
    """Arguments as an object's text: some models write the object as a string, or null."""
    value = text or "null"
    if value.startswith('"'):
        value = json.loads(value).strip() or "null"
    if value == "null":
        return "{}"
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        raise MalformedCall from None
    if not isinstance(parsed, dict):
        raise MalformedCall
    return value


def _drop(_: str) -> None:
    """For values nobody reads."""
