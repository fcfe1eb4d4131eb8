"""What a response's text turns into: content, reasoning and tool calls, as a stream of events.

Events are deltas. A call is one `ToolCallStart`, then `ToolCallArguments` pieces with the same
index; joined they are the call's arguments as JSON text. `assemble` joins a stream into the whole,
which is how the non-streamed answer is made, so both always agree.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ContentDelta:
    """Text for the user."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """Text of the model's thinking."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallStart:
    """A call begins; `index` counts the response's calls from 0."""

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ToolCallArguments:
    """More of the arguments of the call with that index."""

    index: int
    text: str


ToolEvent = ContentDelta | ToolCallStart | ToolCallArguments
ReasoningEvent = ReasoningDelta | ContentDelta
Event = ReasoningDelta | ContentDelta | ToolCallStart | ToolCallArguments


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A whole call; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ParsedText:
    """A whole response. Empty strings where there was no reasoning or content."""

    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str = ""


def assemble(events: Iterable[Event]) -> ParsedText:
    """The response that a stream of events adds up to."""
    content: list[str] = []
    reasoning: list[str] = []
    starts: list[ToolCallStart] = []
    arguments: list[list[str]] = []
    for event in events:
        match event:
            case ContentDelta(text):
                content.append(text)
            case ReasoningDelta(text):
                reasoning.append(text)
            case ToolCallStart():
                starts.append(event)
                arguments.append([])
            case ToolCallArguments(index, text):
                arguments[index].append(text)
    calls = tuple(
        ToolCall(start.id, start.name, "".join(pieces))
        for start, pieces in zip(starts, arguments, strict=True)
    )
    return ParsedText("".join(content), calls, "".join(reasoning))
