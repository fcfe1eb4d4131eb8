"""Calls in markup, a tag per parameter: `<function=f><parameter=a>text</parameter></function>`.

Values stand as plain text; the tool's schema says which of them are strings. What is let out is
JSON all the same. A grammar asks for the parameters in the schema's order.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from quire.core import structural_tags as forms
from quire.text.tools.calls import CallWriter
from quire.text.tools.formats_pythonic import python_literal
from quire.text.tools.reader import MalformedCall, Reader, Steps
from quire.text.tools.values import parsed
from quire.text.tools.ways import Tools, Way, object_schema, properties_of, required_of

_ANY_NAME = r'[^<>"\n]{1,64}'
_MAX_LENGTH = 2000  # of a text that a grammar counts; longer limits cost more than they are worth
_MAX_DEPTH = 8  # of references and choices in a schema; they may go round in circles
_JSON_TYPES: tuple[tuple[type, frozenset[str]], ...] = (
    (bool, frozenset({"boolean"})),
    (int, frozenset({"integer", "number"})),
    (float, frozenset({"number"})),
    (str, frozenset({"string"})),
    (list, frozenset({"array"})),
    (dict, frozenset({"object"})),
    (type(None), frozenset({"null"})),
)


@dataclass(frozen=True, slots=True)
class TaggedCalls:
    """The tags in their order; empty ones do not occur.

    Attributes:
        section, section_end: around all calls.
        call, name_end: around the name.
        key, key_end: around a parameter's name.
        value, value_end: around its value.
        padded: a line break after `value` and one before `value_end` are not the value's.
        special: the tags are special tokens, so the text must be decoded with these.
    """

    section: str
    call_end: str
    key: str
    key_end: str
    value_end: str
    call: str = ""
    name_end: str = ""
    value: str = ""
    section_end: str = ""
    padded: bool = False
    special: bool = False
    bare: str = ""

    @property
    def triggers(self) -> tuple[str, ...]:
        return tuple(tag for tag in (self.section, self.call) if tag)

    # --- read ---

    def read(self, reader: Reader, calls: CallWriter, trigger: str) -> Steps[None]:
        """Calls, from behind the trigger to behind the end."""
        if trigger == self.section and self.call:
            yield from reader.space()
            yield from reader.expect(self.call)
        yield from self._call(reader, calls)
        while self.call and (yield from reader.accept(self.call)):
            yield from self._call(reader, calls)
        yield from reader.accept(self.section_end)

    def _call(self, reader: Reader, calls: CallWriter) -> Steps[None]:
        yield from reader.space()
        name = yield from reader.word()
        calls.check(name)
        if self.name_end:
            yield from reader.expect(self.name_end)
        if (yield from reader.space()) != "<" and not self.name_end:
            raise MalformedCall
        calls.open(name)
        calls.write("{")
        schema = calls.schemas.get(name)
        properties = properties_of(schema)
        separator = ""
        while (found := (yield from reader.accept(self.key, self.call_end))) == self.key:
            key = yield from reader.label(self.key_end)
            if self.value:
                yield from reader.space()
                yield from reader.expect(self.value)
            calls.write(f"{separator}{_quoted(key)}: ")
            yield from self._value(reader, calls, json_types(properties.get(key), schema))
            separator = ", "
        if not found:
            raise MalformedCall
        calls.write("}")
        calls.close()

    def _value(self, reader: Reader, calls: CallWriter, types: frozenset[str]) -> Steps[None]:
        if self.padded and (yield from reader.peek()) == "\n":
            reader.at += 1
        if types <= {"string"}:
            calls.write('"')
            yield from reader.until(
                self.value_end, lambda text: calls.write(_quoted(text)[1:-1]), self.padded
            )
            calls.write('"')
            return
        pieces: list[str] = []
        yield from reader.until(self.value_end, pieces.append, self.padded)
        calls.write(typed_json("".join(pieces), types))

    # --- write ---

    def ways(self, tools: Tools, chat_template: str) -> Iterator[Way]:
        """With the outer tags; models leave them out at times, where there are two."""
        if self.call:
            frame = f"{self.section}\n{self.call}", f"{self.call_end}\n{self.section_end}"
            yield Way(self.section, self._tags(tools, *frame), separator="\n")
            yield Way(self.call, self._tags(tools, self.call, self.call_end), separator="\n")
        else:
            calls = self._tags(tools, self.section, self.call_end)
            yield Way(self.section, calls, separator="\n")

    def _tags(self, tools: Tools, begin: str, end: str) -> list[forms.Tag]:
        return [
            forms.Tag(
                f"{begin}{name}{self.name_end}\n", self._parameters(object_schema(schema)), end
            )
            for name, schema in tools.items()
        ]

    def _parameters(self, schema: Mapping[str, Any]) -> forms.Format:
        """Names outside the schema are only allowed where it has none."""
        padding = "\n" if self.padded else ""
        gap = ("\n" if self.value else "") + self.value + padding
        end = f"{padding}{self.value_end}\n"
        properties = properties_of(schema)
        if not properties:
            if schema.get("additionalProperties", True) is False:
                return forms.Const("")
            value = forms.Tag(self.key_end + gap, forms.AnyText(), end)
            return forms.Star(
                forms.Sequence([forms.Const(self.key), forms.Regex(_ANY_NAME), value])
            )
        required = required_of(schema)
        written = {
            name: forms.Tag(f"{self.key}{name}{self.key_end}{gap}", _content(value, schema), end)
            for name, value in properties.items()
        }
        return forms.Sequence(
            [v if name in required else forms.Optional(v) for name, v in written.items()]
        )


def _content(schema: dict[str, Any], root: Mapping[str, Any]) -> forms.Format:
    """A value: JSON, or where it may be a text, text without quotes."""
    types = json_types(schema, root)
    if types and "string" not in types:
        return forms.JsonSchema(schema)
    choices, longest = schema.get("enum"), schema.get("maxLength")
    if types == {"string"} and isinstance(choices, list):
        texts: list[forms.Format] = [forms.Const(c) for c in choices if isinstance(c, str) and c]
        return forms.AnyOf(texts) if texts else forms.AnyText()
    bounded = isinstance(longest, int) and 0 < longest <= _MAX_LENGTH
    return forms.AnyText(longest if bounded else None)


def json_types(schema: object, root: object = None, depth: int = 0) -> frozenset[str]:
    """The JSON types a schema allows, as far as it says; empty if it does not.

    Args:
        root: the schema whose definitions it may refer to.
    """
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
        return frozenset()
    kinds = schema.get("type")
    if isinstance(kinds, str | list):
        listed = [kinds] if isinstance(kinds, str) else kinds
        return frozenset(kind for kind in listed if isinstance(kind, str))
    if isinstance(schema.get("$ref"), str):
        return json_types(_referred(schema["$ref"], root), root, depth + 1)
    values = schema["enum"] if isinstance(schema.get("enum"), list) else []
    if "const" in schema:
        values = [schema["const"]]
    found = {kind for value in values for kind in _types_of(value)}
    for choice in ("anyOf", "oneOf", "allOf"):
        options = schema.get(choice)
        for option in options if isinstance(options, list) else []:
            found |= json_types(option, root, depth + 1)
    return frozenset(found)


def _referred(reference: str, root: object) -> object:
    """What `#/a/b` refers to in the root; None if there is nothing."""
    start, *path = reference.split("/")
    for key in path if start == "#" else [""]:
        root = root.get(key) if isinstance(root, Mapping) else None
    return root


def typed_json(text: str, types: frozenset[str]) -> str:
    """Plain text as JSON of one of these types; as a string if it is none of them."""
    stripped = text.strip()
    for parse in (parsed, python_literal):
        try:
            value = parse(stripped)
            written = json.dumps(value, ensure_ascii=False, allow_nan=False)
        except (ValueError, RecursionError, MalformedCall):
            continue
        if _types_of(value) & types:
            return written
    return _quoted(text)


def _types_of(value: object) -> frozenset[str]:
    """`bool` is an `int` to Python, so the order of the table counts; 1.0 is an integer too."""
    if isinstance(value, float) and value.is_integer():
        return frozenset({"integer", "number"})
    return next((names for kind, names in _JSON_TYPES if isinstance(value, kind)), frozenset())


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
