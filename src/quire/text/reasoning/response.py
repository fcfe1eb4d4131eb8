"""One response through both parsers: reasoning first, then tool calls in what is left."""

from collections.abc import Iterable
from itertools import chain

from quire.text.reasoning.parser import ReasoningParser
from quire.text.tools.events import ContentDelta, Event, ReasoningEvent
from quire.text.tools.parser import ToolParser


class ResponseParser:
    """Either parser may be missing; without both, all text is content.

    Feed one response, then `finish`. A tool call inside the reasoning is reasoning.
    """

    __slots__ = ("_reasoning", "_tools")

    def __init__(self, reasoning: ReasoningParser | None, tools: ToolParser | None) -> None:
        self._reasoning = reasoning
        self._tools = tools

    def feed(self, text: str) -> list[Event]:
        if self._reasoning is None or self._reasoning.in_content:
            return self._content(text)
        return self._split(self._reasoning.feed(text))

    def finish(self) -> list[Event]:
        events = [] if self._reasoning is None else self._split(self._reasoning.finish())
        return events if self._tools is None else [*events, *self._tools.finish()]

    def _split(self, events: Iterable[ReasoningEvent]) -> list[Event]:
        return list(
            chain.from_iterable(
                self._content(event.text) if isinstance(event, ContentDelta) else (event,)
                for event in events
            )
        )

    def _content(self, text: str) -> list[Event]:
        if self._tools is not None:
            return [*self._tools.feed(text)]
        return [ContentDelta(text)] if text else []
