"""A turn's events as parts: runs of reasoning or text, and calls, each opened, filled and closed.

What the items of the responses API and the content blocks of the messages API are made of.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from quire.text.tools.events import (
    ContentDelta,
    Event,
    ReasoningDelta,
    ToolCallArguments,
    ToolCallStart,
)

PartKind = Literal["reasoning", "text", "call"]


@dataclass(slots=True)
class Part:
    """One part; `call_id` and `name` are a call's."""

    index: int
    kind: PartKind
    call_id: str = ""
    name: str = ""
    _pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text so far; of a call, its arguments as JSON."""
        return "".join(self._pieces)

    def add(self, text: str) -> None:
        """More of it."""
        self._pieces.append(text)


@dataclass(frozen=True, slots=True)
class PartEvent:
    """`text` is what "more" added."""

    what: Literal["open", "more", "close"]
    part: Part
    text: str = ""


class PartReader:
    """Events to parts, one after the other: a part is closed before the next is opened."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self._open: Part | None = None

    def feed(self, events: Iterable[Event]) -> list[PartEvent]:
        """What these events do to the parts."""
        made: list[PartEvent] = []
        for event in events:
            match event:
                case ContentDelta(text):
                    self._more("text", text, made)
                case ReasoningDelta(text):
                    self._more("reasoning", text, made)
                case ToolCallStart(_, call_id, name):
                    self._next(Part(len(self.parts), "call", call_id, name), made)
                case ToolCallArguments(_, text):
                    self._more("call", text, made)
        return made

    def finish(self) -> list[PartEvent]:
        """Close what is open."""
        made: list[PartEvent] = []
        if self._open is not None:
            made.append(PartEvent("close", self._open))
            self._open = None
        return made

    def _more(self, kind: PartKind, text: str, made: list[PartEvent]) -> None:
        if not text:
            return
        if self._open is None or self._open.kind != kind:
            assert kind != "call", "arguments follow the start of their call"
            self._next(Part(len(self.parts), kind), made)
        part = self._open
        assert part is not None
        part.add(text)
        made.append(PartEvent("more", part, text))

    def _next(self, part: Part, made: list[PartEvent]) -> None:
        made += self.finish()
        self.parts.append(part)
        self._open = part
        made.append(PartEvent("open", part))
