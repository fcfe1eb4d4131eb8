"""Calls whose name stands outside the JSON: `<tag>name<tag>{…arguments…}<tag>`."""

import re
from dataclasses import dataclass

from quire.text.tools.calls import CallWriter
from quire.text.tools.formats_json import JsonCalls
from quire.text.tools.json_text import read_value
from quire.text.tools.reader import MalformedCall, Reader, Steps

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
        yield from reader.space()
        if self.listed and reader.text[reader.at] in "[{":
            yield from JsonCalls((self.call,)).read(reader, calls, trigger)
            return
        while True:
            yield from self._call(reader, calls)
            if not (yield from reader.accept(self.call)):
                break
        yield from reader.accept(self.section_end)

    def _call(self, reader: Reader, calls: CallWriter) -> Steps[None]:
        yield from reader.space()
        if self.kind:
            yield from reader.expect(self.kind)
            yield from reader.space()
        word = yield from reader.word()
        name, call_id = self._name(word)
        calls.check(name)
        if self.call_id and (yield from reader.accept(self.call_id)):
            call_id = yield from reader.word()
        if self.arguments:
            yield from reader.accept(self.arguments)
        yield from reader.space()
        if reader.text[reader.at] != "{":
            raise MalformedCall
        calls.open(name, call_id)
        yield from read_value(reader, calls.write)
        calls.close()
        for end in self.call_ends:
            yield from reader.accept(end)

    def _name(self, word: str) -> tuple[str, str | None]:
        match = _COUNTED.match(word) if self.counted else None
        return (match["name"], word) if match is not None else (word, None)
