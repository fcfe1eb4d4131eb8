"""Calls written as Python: `[f(a=1, b="x"), g()]`. Literals only; nothing is evaluated."""

import ast
import json
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from quire.text.tools.calls import CallWriter
from quire.text.tools.reader import MalformedCall, Reader, Steps

_MAX_DEPTH = 64
_MAX_ARGUMENTS = 1 << 18  # characters of one call, which `ast` reads as a whole
_RUN = re.compile(r"""[^'"()\[\]{}\\#]+""")
_CLOSERS = {"(": ")", "[": "]", "{": "}"}
_WORDS = {"true": True, "false": False, "null": None}


@dataclass(frozen=True, slots=True)
class PythonicCalls:
    """A Python list of calls, at the start of the text or between tags."""

    begins: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    bare: str = "["
    special: bool = False

    @property
    def triggers(self) -> tuple[str, ...]:
        return self.begins

    def read(self, reader: Reader, calls: CallWriter, trigger: str) -> Steps[None]:
        """Calls, from behind the trigger to behind the end."""
        yield from reader.space()
        yield from reader.expect("[")
        while True:
            yield from reader.space()
            name = yield from reader.word()
            calls.check(name)
            yield from reader.space()
            yield from reader.expect("(")
            source = yield from _arguments(reader)
            arguments = arguments_json(source)
            calls.open(name)
            calls.write(arguments)
            calls.close()
            yield from reader.space()
            if reader.text[reader.at] == "]":
                reader.at += 1
                break
            yield from reader.expect(",")
        yield from reader.accept(*self.ends)


def _arguments(reader: Reader) -> Steps[str]:
    """Consumes up to the closing parenthesis and gives what stood before it."""
    pieces: list[str] = []
    closers = [")"]
    size = 0

    def keep(text: str) -> None:
        nonlocal size
        pieces.append(text)
        size += len(text)
        if size > _MAX_ARGUMENTS:
            raise MalformedCall

    while True:
        run = _RUN.match(reader.text, reader.at)
        if run is not None:
            reader.at = run.end()
            keep(run[0])
        character = yield from reader.peek()
        if character in "'\"":
            yield from _string(reader, keep)
        elif character in _CLOSERS:
            if len(closers) == _MAX_DEPTH:
                raise MalformedCall
            closers.append(_CLOSERS[character])
            reader.at += 1
            keep(character)
        elif character == closers[-1]:
            closers.pop()
            reader.at += 1
            if not closers:
                return "".join(pieces)
            keep(character)
        elif not _RUN.match(character):  # a bracket that does not match, a comment, a backslash
            raise MalformedCall


def _string(reader: Reader, keep: Callable[[str], None]) -> Steps[None]:
    quote = yield from reader.peek()
    while len(reader.text) - reader.at < 3:  # whether it is a triple quote
        yield from reader.more()
    if reader.text.startswith(quote * 3, reader.at):
        quote *= 3
    reader.at += len(quote)
    keep(quote)
    while True:
        character = yield from reader.peek()
        while character == "\\" and len(reader.text) - reader.at < 2:
            yield from reader.more()
        if character == "\\":
            keep(reader.text[reader.at : reader.at + 2])
            reader.at += 2
        elif character == quote[0] and (len(quote) == 1 or (yield from _closes(reader, quote))):
            reader.at += len(quote)
            keep(quote)
            return
        else:
            keep(character)
            reader.at += 1


def _closes(reader: Reader, quote: str) -> Steps[bool]:
    while len(reader.text) - reader.at < len(quote):
        yield from reader.more()
    return reader.text.startswith(quote, reader.at)


def arguments_json(source: str) -> str:
    """Keyword arguments as a JSON object.

    Raises:
        MalformedCall: not Python, not keywords only, or a value that is no literal.
    """
    try:
        call = _parsed(f"_({source}\n)")
        if not isinstance(call, ast.Call) or call.args:
            raise MalformedCall
        values: dict[str, Any] = {}
        for keyword in call.keywords:
            if keyword.arg is None:  # **mapping
                raise MalformedCall
            values[keyword.arg] = _literal(keyword.value)
        return json.dumps(values, ensure_ascii=False, allow_nan=False)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise MalformedCall from None


def python_literal(source: str) -> Any:
    """A Python literal as a value of JSON.

    Raises:
        MalformedCall: it is none.
    """
    try:
        return _literal(_parsed(source))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise MalformedCall from None


def _parsed(source: str) -> ast.expr:
    with warnings.catch_warnings():  # of invalid escapes, which Python keeps as they are
        warnings.simplefilter("ignore")
        return ast.parse(source, mode="eval").body


def _literal(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=str() as text):
            # JSON writes characters beyond 16 bits as two escapes, which Python keeps apart.
            return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case ast.Constant(value=bool() | int() | float() | None as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_literal(item) for item in items]
        case ast.Dict(keys=keys, values=items):
            return {_key(key): _literal(item) for key, item in zip(keys, items, strict=True)}
        case ast.Name(id=word) if word in _WORDS:
            return _WORDS[word]
    raise MalformedCall


def _key(node: ast.expr | None) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    raise MalformedCall
