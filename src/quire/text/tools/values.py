"""Values out of arriving text, JSON's or Python's: where they end, told by brackets and quotes.

The text is passed on as the model wrote it, as soon as it is certain to be part of the value.
Whether it is well-formed inside is for a parser to say once it is complete. One leniency: control
characters inside strings, which models write and neither language allows, are escaped.
"""

import json
import re

from quire.text.tools.reader import MalformedCall, Reader, Steps, Write

# Deeper nesting makes JSON parsers of clients give up.
MAX_DEPTH = 128
_MAX_SCALAR = 400  # characters; the longest double written out has about 330

_CLOSERS = {"(": ")", "[": "]", "{": "}"}
_JSON = re.compile(r'[^"\[\]{}]*')
_PYTHON = re.compile(r"""[^'"()\[\]{}\\#]*""")  # backslashes and comments have no place in it
_SCALAR = re.compile(r"[-+.\w]*")
_UNQUOTED = {"'": re.compile(r"[^'\\]*"), '"': re.compile(r'[^"\\]*')}
_CONTROL = re.compile(r"[\x00-\x1f]")


def read_value(reader: Reader, write: Write) -> Steps[None]:
    """Consumes one value of JSON, writing its text.

    Raises:
        MalformedCall: brackets do not match, or the text ends before the value does.
    """
    first = yield from reader.peek()
    if first in "{[":
        yield from read_brackets(reader, write)
    elif first == '"':
        yield from read_string(reader, write)
    else:
        yield from _scalar(reader, write)


def read_brackets(reader: Reader, write: Write, python: bool = False) -> Steps[None]:
    """Consumes a bracket, all up to the one that closes it, and that one."""
    plain = _PYTHON if python else _JSON
    closers: list[str] = []
    while True:
        end = reader.match_end(plain)
        if end > reader.at:
            reader.take(end, write)
        character = yield from reader.peek()
        if plain.fullmatch(character):
            continue  # it has just arrived
        if character in _UNQUOTED:
            yield from read_string(reader, write, python)
            continue
        if character in _CLOSERS:
            closers.append(_CLOSERS[character])
        elif closers.pop() != character:
            raise MalformedCall
        if len(closers) > MAX_DEPTH:
            raise MalformedCall
        reader.take(reader.at + 1, write)
        if not closers:
            return


def read_string(reader: Reader, write: Write, python: bool = False) -> Steps[None]:
    """Consumes a string with its quotes; Python's may be single or triple."""
    quote = yield from reader.peek()
    if quote not in (_UNQUOTED if python else '"'):
        raise MalformedCall
    plain, length = _UNQUOTED[quote], 1
    if python and (yield from reader.peek(1)) == (yield from reader.peek(2)) == quote:
        length = 3
    reader.take(reader.at + length, write)
    while True:
        end = reader.match_end(plain)
        if end > reader.at:
            reader.take(end, lambda run: write(_CONTROL.sub(_escaped, run)))
        character = yield from reader.peek()
        if character == "\\":
            yield from reader.peek(1)
            reader.take(reader.at + 2, write)
        elif character == quote:
            closes = True
            for ahead in range(1, length):
                closes = closes and (yield from reader.peek(ahead)) == quote
            reader.take(reader.at + (length if closes else 1), write)
            if closes:
                return


def _scalar(reader: Reader, write: Write) -> Steps[None]:
    """A number or a word ends where something else begins."""
    while (end := reader.match_end(_SCALAR)) == len(reader.text) and not reader.ended:
        if end - reader.at > _MAX_SCALAR:
            raise MalformedCall
        yield
    if end == reader.at or end - reader.at > _MAX_SCALAR:
        raise MalformedCall
    reader.take(end, write)


def parsed(text: str) -> object:
    """JSON as every parser reads it.

    Raises:
        MalformedCall: it is none.
    """
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise MalformedCall from None


def _no_number(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


def _escaped(match: re.Match[str]) -> str:
    return json.dumps(match[0])[1:-1]
