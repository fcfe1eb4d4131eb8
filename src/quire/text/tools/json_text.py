"""One JSON value out of arriving text, checked as strictly as a JSON parser would.

The text is passed on as the model wrote it, as soon as it is certain to be part of the value. One
leniency: control characters inside strings, which models write and JSON forbids, are escaped.
"""

import json
import re
from collections.abc import Callable

from quire.text.tools.reader import MalformedCall, Reader, Steps

Write = Callable[[str], None]

# Deeper nesting makes JSON parsers of clients give up.
MAX_DEPTH = 128
_MAX_NUMBER = 400  # characters; the longest double written out has about 330

_RUN = re.compile(r'[^"\\]+')
_ESCAPE = re.compile(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')
_ESCAPE_BEGUN = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_NUMBER_RUN = re.compile(r"[-+0-9.eE]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_CONTROL = re.compile(r"[\x00-\x1f]")
_WORDS = {"t": "true", "f": "false", "n": "null"}


def read_value(reader: Reader, write: Write) -> Steps[None]:
    """Consumes one value, writing its text.

    Raises:
        MalformedCall: the text is not JSON, or ends before the value does.
    """
    closers: list[str] = []
    while True:
        first = yield from reader.peek()
        if first in "{[":
            if (yield from _open(reader, write, first, closers)):
                continue
        elif first == '"':
            yield from read_string(reader, write)
        elif first == "-" or "0" <= first <= "9":
            yield from _number(reader, write)
        else:
            word = _WORDS.get(first)
            if word is None:
                raise MalformedCall
            yield from reader.expect(word)
            write(word)
        if not (yield from _after_value(reader, write, closers)):
            return


def _open(reader: Reader, write: Write, opener: str, closers: list[str]) -> Steps[bool]:
    """Whether a value follows; if not, the object or array was empty and is complete."""
    if len(closers) == MAX_DEPTH:
        raise MalformedCall
    closer = "}" if opener == "{" else "]"
    _take(reader, write, opener)
    yield from reader.space(write)
    if reader.text[reader.at] == closer:
        _take(reader, write, closer)
        return False
    closers.append(closer)
    if closer == "}":
        yield from _key(reader, write)
    return True


def _after_value(reader: Reader, write: Write, closers: list[str]) -> Steps[bool]:
    """Whether another value follows; if not, the outermost one is complete."""
    while closers:
        yield from reader.space(write)
        character = reader.text[reader.at]
        if character == closers[-1]:
            _take(reader, write, character)
            closers.pop()
        elif character == ",":
            _take(reader, write, character)
            yield from reader.space(write)
            if closers[-1] == "}":
                yield from _key(reader, write)
            return True
        else:
            raise MalformedCall
    return False


def _key(reader: Reader, write: Write) -> Steps[None]:
    yield from read_string(reader, write)
    yield from reader.space(write)
    yield from reader.expect(":")
    write(":")
    yield from reader.space(write)


def read_string(reader: Reader, write: Write) -> Steps[None]:
    """Consumes a string with its quotes."""
    yield from reader.expect('"')
    write('"')
    while True:
        run = _RUN.match(reader.text, reader.at)
        if run is not None:
            reader.at = run.end()
            write(_CONTROL.sub(_escaped, run[0]))
        if reader.at == len(reader.text):
            yield from reader.more()
            continue
        if reader.text[reader.at] == '"':
            _take(reader, write, '"')
            return
        escape = _ESCAPE.match(reader.text, reader.at)
        if escape is not None:
            _take(reader, write, escape[0])
        elif _ESCAPE_BEGUN.match(reader.text, reader.at):
            yield from reader.more()
        else:
            raise MalformedCall


def _number(reader: Reader, write: Write) -> Steps[None]:
    """A number ends where something else begins, so it is written whole."""
    while True:
        run = _NUMBER_RUN.match(reader.text, reader.at)
        assert run is not None  # the pattern matches nothing at least
        if len(run[0]) > _MAX_NUMBER:
            raise MalformedCall
        if run.end() < len(reader.text) or reader.ended:
            if not _NUMBER.fullmatch(run[0]):
                raise MalformedCall
            _take(reader, write, run[0])
            return
        yield


def _take(reader: Reader, write: Write, text: str) -> None:
    reader.at += len(text)
    write(text)


def _escaped(match: re.Match[str]) -> str:
    return json.dumps(match[0])[1:-1]
