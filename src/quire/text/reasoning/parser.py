"""Splits a response into reasoning and content while it streams in.

One parser per response. The text of both is passed on exactly, without the tags; what may be the
beginning of a tag is held back. Whether the response begins inside the reasoning is the prompt's
to say: many templates write the opening tag themselves, and some the closing one, to keep the
model from thinking.
"""

import re
from collections.abc import Iterable
from itertools import chain
from typing import Literal

from quire.text.reasoning.formats import reasoning_format_of
from quire.text.tools.events import ContentDelta, Event, ReasoningDelta, ReasoningEvent
from quire.text.tools.parser import ToolParser
from quire.text.tools.reader import partial_tail

# What the prompt ends with: an open tag, a closed one, or neither.
PromptState = Literal["open", "closed", "absent"]

# Only the end of the prompt counts; tags may occur in what users write.
_PROMPT_END = 256


class ReasoningParser:
    """One response's text into reasoning and content.

    Args:
        name: one of `REASONING_PARSERS`, by vLLM's names.
        prompt: the rendered prompt, which may end inside the reasoning.
        continued: the text of the final message, where the response continues it.

    Raises:
        ConfigError: no such parser.
    """

    __slots__ = ("_begins", "_ends", "_find", "_held", "_state", "_stops", "_suspect", "_thinks")

    def __init__(self, name: str, prompt: str | None = None, *, continued: str = "") -> None:
        reasoning_format = reasoning_format_of(name)
        state = prompt_state(prompt or "", name, continued)
        self._begins = reasoning_format.begins
        self._stops = reasoning_format.stops
        self._ends = (*reasoning_format.ends, *reasoning_format.stops)
        self._find = re.compile("|".join(map(re.escape, self._ends))).search
        # Reasoning with none of these leaves nothing pending.
        self._suspect = re.compile(f"[{re.escape(''.join(end[0] for end in self._ends))}]").search
        # Without an opening tag, the text is reasoning.
        self._thinks = reasoning_format.always if state == "absent" else state == "open"
        self._held = ""
        self._state: Literal["start", "reasoning", "content"] = "start"

    @property
    def in_content(self) -> bool:
        """Whether all further text is content."""
        return self._state == "content"

    def feed(self, text: str) -> list[ReasoningEvent]:
        """What is certain once this text has come; may be empty."""
        if not text:
            return []
        if self._state == "content":
            return [ContentDelta(text)]
        if self._state == "reasoning":
            if not self._held and self._suspect(text) is None:
                return [ReasoningDelta(text)]
            return self._reasoning(self._held + text)
        return self._start(self._held + text)

    def finish(self) -> list[ReasoningEvent]:
        """What was held back. Nothing may be fed afterwards."""
        text, self._held = self._held, ""
        if not text:
            return []
        if self._state == "start" and not self._thinks:
            return [ContentDelta(text)]
        return [ReasoningDelta(text)]

    def _start(self, text: str) -> list[ReasoningEvent]:
        """White space and an opening tag are nobody's text; without the tag, all of it is."""
        visible = text.lstrip()
        for begin in self._begins:
            if visible.startswith(begin):
                self._state = "reasoning"
                return self._reasoning(visible[len(begin) :])
        if any(begin.startswith(visible) for begin in self._begins):
            self._held = text
            return []
        if self._thinks:
            self._state = "reasoning"
            return self._reasoning(text)
        self._state, self._held = "content", ""
        return [ContentDelta(text)]

    def _reasoning(self, text: str) -> list[ReasoningEvent]:
        found = self._find(text)
        if found is None:
            stop = len(text) - partial_tail(text, 0, self._ends)
            self._held = text[stop:]
            return [ReasoningDelta(text[:stop])] if stop else []
        self._state, self._held = "content", ""
        events: list[ReasoningEvent] = []
        if found.start():
            events.append(ReasoningDelta(text[: found.start()]))
        rest = text[found.start() if found[0] in self._stops else found.end() :]
        if rest:
            events.append(ContentDelta(rest))
        return events


def prompt_state(prompt: str, name: str, continued: str = "") -> PromptState:
    """Whether a rendered prompt ends behind an opening or a closing tag of that parser.

    Args:
        continued: see `ReasoningParser`.
    """
    reasoning_format = reasoning_format_of(name)
    begins, ends = reasoning_format.begins, reasoning_format.ends
    last_begin = max(continued.rfind(tag) for tag in begins)
    last_end = max(continued.rfind(tag) for tag in ends)
    if last_begin != last_end:  # both are -1 if there is no tag
        return "open" if last_begin > last_end else "closed"
    tail = prompt[-_PROMPT_END:].rstrip()
    if tail.endswith(begins):
        return "open"
    return "closed" if tail.endswith(ends) else "absent"


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
