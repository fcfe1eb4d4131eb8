"""The calls of one response while they are read: names, ids, and when their text is let out."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from quire.text.tools.events import ToolCallArguments, ToolCallStart, ToolEvent
from quire.text.tools.reader import MalformedCall, Reader


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

    __slots__ = (
        "_bound",
        "_id",
        "_limit",
        "_name",
        "_names",
        "_new_id",
        "_pieces",
        "count",
        "events",
        "reader",
        "schemas",
    )

    def __init__(
        self,
        reader: Reader,
        *,
        bound: bool,
        names: Collection[str] | None,
        schemas: Mapping[str, Any],
        limit: int | None,
        new_id: Callable[[str, int], str],
    ) -> None:
        self.reader = reader
        self.events: list[ToolEvent] = []
        self.count = 0
        self.schemas = schemas
        self._bound = bound
        self._names = names
        self._limit = limit
        self._new_id = new_id
        self._name = ""
        self._id: str | None = None
        self._pieces: list[str] = []

    def check(self, name: str) -> None:
        """Raises MalformedCall if there is no such tool."""
        if not name or (self._names is not None and name not in self._names):
            raise MalformedCall

    def open(self, name: str, call_id: str | None = None) -> None:
        """A call begins; its arguments follow through `write`."""
        self.check(name)
        self._name, self._id = name, call_id
        self._pieces.clear()
        if self._bound:
            self._start()

    def write(self, text: str) -> None:
        """More of the arguments' JSON text."""
        self._pieces.append(text)
        if self._bound:
            self._emit(text)

    def close(self) -> None:
        """The call is complete and, whatever follows, a call."""
        if not self._pieces:
            self.write("{}")
        if not self._bound:
            self._start()
            self._emit("".join(self._pieces))
        self.count += 1
        self.reader.deliver()

    def _start(self) -> None:
        if self._limit is None or self.count < self._limit:
            call_id = self._id if self._id is not None else self._new_id(self._name, self.count)
            self.events.append(ToolCallStart(self.count, call_id, self._name))
        self.reader.deliver()

    def _emit(self, text: str) -> None:
        if self._limit is None or self.count < self._limit:
            self.events.append(ToolCallArguments(self.count, text))
        self.reader.deliver()
