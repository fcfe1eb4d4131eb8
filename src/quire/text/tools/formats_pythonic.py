"""Calls written as Python: `[f(a=1, b="x"), g()]`. Literals only; nothing is evaluated."""

import ast
import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from quire.core.structural_tags import AnyOf, Const, Format, JsonSchema, Optional, Sequence, Tag
from quire.text.tools.calls import CallWriter
from quire.text.tools.reader import MalformedCall, Reader, Steps
from quire.text.tools.values import read_brackets
from quire.text.tools.ways import Tools, Way, object_schema, properties_of, required_of

_MAX_ARGUMENTS = 1 << 18  # characters of one call, which `ast` reads as a whole
# Keywords in a row have no way to leave the first one out without a comma too many.
_MAX_FIRST = 8
_WORDS = {"true": True, "false": False, "null": None}


@dataclass(frozen=True, slots=True)
class PythonicCalls:
    """A Python list of calls, at the start of the text or between tags."""

    triggers: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    bare: str = "["
    special: bool = False

    def read(self, reader: Reader, calls: CallWriter, trigger: str) -> Steps[None]:
        """Calls, from behind the trigger to behind the end."""
        yield from reader.space()
        opener = "["
        while opener != "]":
            yield from reader.expect(opener)
            yield from reader.space()
            name = yield from reader.word()
            calls.check(name)
            if (yield from reader.space()) != "(":
                raise MalformedCall
            source: list[str] = []
            yield from read_brackets(reader, source.append, python=True)
            arguments = arguments_json("".join(source))
            calls.open(name)
            calls.write(arguments)
            calls.close()
            opener = "]" if (yield from reader.space()) == "]" else ","
        reader.at += 1
        yield from reader.accept(*self.ends)

    def ways(self, tools: Tools, chat_template: str) -> Iterator[Way]:
        """Bare, or between tags."""
        calls = [
            Tag(f"{name}(", _keywords(object_schema(schema)), ")") for name, schema in tools.items()
        ]
        frames = [("", "")] if self.bare else []
        for begin, end in [*frames, *zip_longest(self.triggers, self.ends, fillvalue="")]:
            yield Way(begin or "[", calls, begin + "[", ", ", "]" + end)


def _keywords(schema: Mapping[str, Any]) -> Format:
    """Required ones first. The values are JSON, which the reader takes."""
    required = required_of(schema)
    given = {
        name: Tag(f"{name}=", JsonSchema(value))
        for name, value in properties_of(schema).items()
        if name.isidentifier()
    }
    first = [given[name] for name in given if name in required]
    others = [given[name] for name in given if name not in required]
    if first:
        return Sequence([first[0], *map(_joined, first[1:]), *_optional(others)])
    rows: list[Format] = [
        Sequence([f, *_optional(others[i + 1 :])]) for i, f in enumerate(others[:_MAX_FIRST])
    ]
    return Optional(AnyOf(rows)) if rows else Const("")


def _joined(keyword: Tag) -> Sequence:
    return Sequence([Const(", "), keyword])


def _optional(keywords: list[Tag]) -> list[Optional]:
    return [Optional(_joined(keyword)) for keyword in keywords]


def arguments_json(source: str) -> str:
    """Keyword arguments in parentheses as a JSON object.

    Raises:
        MalformedCall: not Python, not keywords only, or a value that is no literal.
    """
    call = _parsed(f"_{source}" if len(source) < _MAX_ARGUMENTS else "")
    if not isinstance(call, ast.Call) or call.args:
        raise MalformedCall
    values: dict[str, Any] = {}
    for keyword in call.keywords:
        if keyword.arg is None:  # **mapping
            raise MalformedCall
        values[keyword.arg] = _literal(keyword.value)
    try:
        return json.dumps(values, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError):
        raise MalformedCall from None


def python_literal(source: str) -> Any:
    """A Python literal as a value of JSON.

    Raises:
        MalformedCall: it is none.
    """
    return _literal(_parsed(source))


def _parsed(source: str) -> ast.expr:
    try:
        with warnings.catch_warnings():  # of invalid escapes, which Python keeps as they are
            warnings.simplefilter("ignore")
            return ast.parse(source, mode="eval").body
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise MalformedCall from None


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
