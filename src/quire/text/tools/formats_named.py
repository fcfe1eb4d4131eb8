"""Calls whose name stands outside the JSON: `<tag>name<tag>{…arguments…}<tag>`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from quire.core.structural_tags import Const, JsonSchema, Regex, Sequence, Tag
from quire.text.tools.calls import CallWriter
from quire.text.tools.formats_json import JsonCalls, object_calls
from quire.text.tools.reader import MalformedCall, Reader, Steps
from quire.text.tools.values import read_value
from quire.text.tools.ways import Tools, Way, object_schema

_COUNTED = re.compile(r"(?:functions\.)?(?P<name>.+?)(?::\d+)?\Z")


@dataclass(frozen=True, slots=True)
class NamedCalls:
    """The tags in their order; empty ones do not occur.

    Attributes:
        section, section_end: around all calls.
        call: before each call.
        kind: between that and the name.
        call_id: between name and arguments, before an id of the call.
        arguments: between name and arguments.
        call_ends: what may follow the arguments, in this order.
        counted: the name is written as an id, `functions.<name>:<index>`.
        listed: what follows `call` may also be JSON objects with names inside.
        padding: what a model writes around the arguments and between calls.
        special: the tags are special tokens, so the text must be decoded with these.
    """

    call: str
    section: str = ""
    section_end: str = ""
    kind: str = ""
    call_id: str = ""
    arguments: str = ""
    call_ends: tuple[str, ...] = ()
    counted: bool = False
    listed: bool = False
    padding: str = ""
    special: bool = True
    bare: str = ""

    @property
    def triggers(self) -> tuple[str, ...]:
        return tuple(tag for tag in (self.section, self.call) if tag)

    def read(self, reader: Reader, calls: CallWriter, trigger: str) -> Steps[None]:
        """Calls, from behind the trigger to behind the end."""
        if trigger == self.section:
            yield from reader.space()
            yield from reader.expect(self.call)
        if (yield from reader.space()) in "[{" and self.listed:
            yield from JsonCalls((self.call,)).read(reader, calls, trigger)
            return
        yield from self._call(reader, calls)
        while (yield from reader.accept(self.call)):
            yield from self._call(reader, calls)
        yield from reader.accept(self.section_end)

    def _call(self, reader: Reader, calls: CallWriter) -> Steps[None]:
        yield from reader.space()
        if self.kind:
            yield from reader.expect(self.kind)
            yield from reader.space()
        name = yield from reader.word()
        call_id = None
        if self.counted and (match := _COUNTED.match(name)):
            name, call_id = match["name"], name
        calls.check(name)
        if self.call_id and (yield from reader.accept(self.call_id)):
            call_id = yield from reader.word()
        if self.arguments:
            yield from reader.accept(self.arguments)
        if (yield from reader.space()) != "{":
            raise MalformedCall
        calls.open(name, call_id)
        yield from read_value(reader, calls.write)
        calls.close()
        for end in self.call_ends:
            yield from reader.accept(end)

    def ways(self, tools: Tools, chat_template: str) -> Iterator[Way]:
        """In their section if there is one, else one after the other. Of the formats with lists,
        newer models write `[TOOL_CALLS]name[ARGS]{…}` or leave [ARGS] out, older ones a list;
        their templates may show which."""
        if self.section:
            row = self.section, self.padding, self.section_end
            yield Way(self.section, self._tags(tools), *row)
            yield Way(self.call, self._tags(tools), separator=self.padding)
            return
        listed = any(f"{self.call}{gap}[" in chat_template for gap in ("", " "))
        named = self.arguments in chat_template
        if named or not listed:
            yield Way(self.call, self._tags(tools))
        if not named and not listed:
            yield Way(self.call, replace(self, arguments="")._tags(tools))
        if not named:
            for gap in ("", " "):
                objects = object_calls(tools, "arguments")
                yield Way(self.call, objects, f"{self.call}{gap}[", ", ", "]")

    def _tags(self, tools: Tools) -> list[Tag]:
        return [self._tag(name, object_schema(schema)) for name, schema in tools.items()]

    def _tag(self, name: str, schema: dict[str, Any]) -> Tag:
        begin, end = self.call + self.kind, self.padding + "".join(self.call_ends)
        if not self.counted:
            begin += f"{name}{self.padding}{self.arguments}{self.padding}"
            return Tag(begin, JsonSchema(schema), end)
        number = Regex("[0-9]{1,3}")
        content = Sequence([number, Const(self.arguments), JsonSchema(schema)])
        return Tag(f"{begin}functions.{name}:", content, end)
