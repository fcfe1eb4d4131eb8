"""Finds the tool calls in a response while it streams in.

One parser per response: `feed` its text as it comes, then `finish`. Text without a call costs a
regular expression search per delta. Decisions depend on the text alone, never on how it was cut;
text that is no valid call after all becomes content as it stands. White space before a call, and
after the last one, is dropped.
"""

import re
import secrets
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from quire.core.errors import ConfigError, nearest
from quire.text.tools.calls import CallWriter
from quire.text.tools.events import ContentDelta, ToolCallArguments, ToolCallStart, ToolEvent
from quire.text.tools.formats import TOOL_PARSER_ALIASES, TOOL_PARSERS, ToolFormat
from quire.text.tools.reader import MalformedCall, Reader, Steps, partial_tail

NewId = Callable[[str, int], str]
_ALPHANUMERIC = string.ascii_letters + string.digits


class ToolParser:
    """One response's text into content and calls.

    Args:
        name: one of `TOOL_PARSERS`, by vLLM's names.
        tools: the request's tools in OpenAI's shape. Calls of others are content; formats that
            write values untyped take the types from here. None: any name is a call's.
        bound: a grammar makes the calls well-formed (`ToolConstraint.binds_every_call`), so
            arguments are let out while they arrive. Otherwise a call is let out when it is
            complete, and text that never becomes one stays content.
        parallel: False: calls after the first are dropped.
        new_id: ids for calls that bring none; for tests.

    Raises:
        ConfigError: no such parser.
    """

    __slots__ = ("_calls", "_find", "_format", "_idle", "_reader", "_steps", "_suspect")

    def __init__(
        self,
        name: str,
        tools: Sequence[Mapping[str, Any]] | None = None,
        *,
        bound: bool = False,
        parallel: bool = True,
        new_id: NewId | None = None,
    ) -> None:
        self._format = tool_format = tool_format_of(name)
        schemas = tool_schemas(tools or ())
        self._calls = calls = CallWriter(
            Reader(),
            bound=bound,
            names=schemas.keys() if tools else None,
            schemas=schemas,
            limit=None if parallel else 1,
            new_id=new_id or (_mistral_id if name == "mistral" else _default_id),
        )
        self._reader = calls.reader
        triggers = tool_format.triggers
        self._find = re.compile("|".join(map(re.escape, triggers)) or r"(?!)")
        firsts = "".join(re.escape(trigger[0]) for trigger in triggers)
        # A delta with none of these leaves nothing pending.
        self._suspect = re.compile((rf"[{firsts}]|" if firsts else "") + r"\s\Z").search
        self._idle = False
        self._steps = self._read()
        next(self._steps)

    def feed(self, text: str) -> list[ToolEvent]:
        """What is certain once this text has come; may be empty."""
        if self._idle and self._suspect(text) is None:
            return [ContentDelta(text)] if text else []
        self._reader.append(text)
        next(self._steps)
        return self._events()

    def finish(self) -> list[ToolEvent]:
        """What was held back. Nothing may be fed afterwards."""
        self._reader.ended = True
        for _ in self._steps:
            pass
        return self._events()

    def _read(self) -> Steps[None]:
        reader, calls = self._reader, self._calls
        trigger: str | None = None
        if self._format.bare and (yield from reader.glance()) in [*self._format.bare]:
            trigger = ""
        else:
            trigger = yield from self._content()
        while trigger is not None:
            try:
                yield from self._format.read(reader, calls, trigger)
            except MalformedCall:
                self._emit(reader.retry)
                reader.at = reader.retry
                trigger = yield from self._content()
            else:
                reader.deliver()
                trigger = yield from self._content(after_call=True)

    def _content(self, after_call: bool = False) -> Steps[str | None]:
        """Passes content on up to a trigger, which it consumes; None at the end.

        White space before the trigger, and what may be the beginning of one, is held back.
        """
        reader = self._reader
        while True:
            found = self._find.search(reader.text, reader.at)
            stop = found.start() if found else len(reader.text)
            if not found and not reader.ended:
                stop -= partial_tail(reader.text, reader.at, self._format.triggers)
            visible = reader.mark + len(reader.text[reader.mark : stop].rstrip())
            after_call = after_call and visible == reader.mark
            if found or not reader.ended or after_call:
                stop = visible
            self._emit(stop)
            if found:
                reader.at = reader.retry = found.end()
                return found[0]
            if reader.ended:
                return None
            self._idle = reader.mark == len(reader.text) and not after_call
            yield
            self._idle = False

    def _emit(self, stop: int) -> None:
        """The undelivered text up to there is content."""
        reader = self._reader
        if stop > reader.mark:
            self._calls.events.append(ContentDelta(reader.text[reader.mark : stop]))
            reader.mark = reader.at = stop

    def _events(self) -> list[ToolEvent]:
        events, self._calls.events = self._calls.events, []
        return events if len(events) < 2 else _merged(events)


def tool_format_of(name: str) -> ToolFormat:
    """The format by that name.

    Raises:
        ConfigError: there is none.
    """
    found = TOOL_PARSERS.get(TOOL_PARSER_ALIASES.get(name, name))
    if found is None:
        known = sorted([*TOOL_PARSERS, *TOOL_PARSER_ALIASES])
        raise ConfigError(
            f"unknown tool parser '{name}'{nearest(name, known)}; --tool-call-parser takes"
            f" {', '.join(known)}"
        )
    return found


def tool_schemas(tools: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Name -> JSON schema of the parameters, of tools in OpenAI's shapes (nested or flat)."""
    schemas: dict[str, Any] = {}
    for tool in tools:
        function = tool.get("function", tool)
        if isinstance(function, Mapping) and isinstance(function.get("name"), str):
            schemas[function["name"]] = function.get("parameters")
    return schemas


def _merged(events: list[ToolEvent]) -> list[ToolEvent]:
    """Neighbouring deltas of the same kind as one."""
    merged: list[ToolEvent] = []
    for (kind, index), run in groupby(events, _kind):
        same = list(run)
        if kind is ToolCallStart or len(same) == 1:
            merged += same
            continue
        text = "".join(event.text for event in same if not isinstance(event, ToolCallStart))
        merged.append(ContentDelta(text) if index < 0 else ToolCallArguments(index, text))
    return merged


def _kind(event: ToolEvent) -> tuple[type, int]:
    return type(event), -1 if isinstance(event, ContentDelta) else event.index


def _default_id(name: str, index: int) -> str:
    return f"chatcmpl-tool-{secrets.token_hex(8)}"


def _mistral_id(name: str, index: int) -> str:
    """Mistral's templates take ids of nine letters and digits only."""
    return "".join(secrets.choice(_ALPHANUMERIC) for _ in range(9))
