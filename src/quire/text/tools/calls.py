"""The calls of one response while they are read: names, ids, and when their text is let out."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from quire.text.tools.events import ToolCallArguments, ToolCallStart, ToolEvent
from quire.text.tools.reader import MalformedCall, Reader
from quire.text.tools.values import parsed


@dataclass(slots=True)
class CallWriter:
    """Turns what a format reads into events.

    Args:
        bound: the text is known to be well-formed (a grammar made it), so a call is let out while
            it arrives. Otherwise it is let out when it is complete: until then it may turn out to
            be content.
        names: the tools there are, to refuse others; None: any name.
        schemas: the JSON schema of each tool's parameters, for formats that write values untyped.
        limit: further calls are read and dropped; None: all are let out.
        new_id: the id of a call that brings none, from its name and index.
    """

    reader: Reader
    bound: bool
    names: Collection[str] | None
    schemas: Mapping[str, Any]
    limit: int | None
    new_id: Callable[[str, int], str]
    events: list[ToolEvent] = field(default_factory=list, init=False)
    _count: int = field(default=0, init=False)
    _name: str = field(default="", init=False)
    _id: str | None = field(default=None, init=False)
    _pieces: list[str] = field(default_factory=list, init=False)

    def check(self, name: str) -> None:
        """Raises MalformedCall if there is no such tool."""
        if not name or (self.names is not None and name not in self.names):
            raise MalformedCall

    def open(self, name: str, call_id: str | None = None) -> None:
        """A call begins; its arguments follow through `write`."""
        self.check(name)
        self._name, self._id = name, call_id
        self._pieces.clear()
        if self.bound:
            self._start()

    def write(self, text: str) -> None:
        self._pieces.append(text)
        if self.bound:
            self._emit(text)

    def close(self) -> None:
        """The call is complete and, whatever follows, a call.

        Raises:
            MalformedCall: its arguments are no JSON object.
        """
        if not self.bound:
            text = "".join(self._pieces)
            if not isinstance(parsed(text), dict):
                raise MalformedCall
            self._start()
            self._emit(text)
        self._count += 1
        self.reader.deliver()

    def _start(self) -> None:
        if self.limit is None or self._count < self.limit:
            call_id = self._id or self.new_id(self._name, self._count)
            self.events.append(ToolCallStart(self._count, call_id, self._name))
        self.reader.deliver()

    def _emit(self, text: str) -> None:
        if self.limit is None or self._count < self.limit:
            self.events.append(ToolCallArguments(self._count, text))
        self.reader.deliver()
