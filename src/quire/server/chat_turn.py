"""ChatTurn: a chat answer of one choice as events, for APIs that are chat in another dress; and
these events as parts, which the items of the responses API and the content blocks of the messages
API are made of."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from quire.engine.frontend_request import TrackedSequence
from quire.server.chat_shape import ChatReader, ChatShape
from quire.server.job import Job
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


@dataclass(frozen=True, slots=True)
class Piece:
    """What one update added; `logprobs` are its tokens', in chat's form, if they were asked for."""

    events: list[Event]
    logprobs: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class TurnCounts:
    """Tokens of a turn; `cached` of the prompt's came from the prefix cache."""

    prompt: int
    cached: int
    completion: int
    reasoning: int


class ChatTurn:
    """One turn, from `open_chat`'s job and shape. Read it once, by `pieces` or `whole`."""

    def __init__(self, job: Job, shape: ChatShape) -> None:
        self.job = job
        self._shape = shape
        self._reader = ChatReader(shape, 0)

    @property
    def sequence(self) -> TrackedSequence:
        """The choice's; its finish_reason is None until the end."""
        return self.job.sequences[0]

    async def pieces(self) -> AsyncIterator[Piece]:
        """Of a job that streams, as they come. Raises as `Job.updates`."""
        async for updates in self.job.updates():
            for update in updates.values():
                ended = update.sequence.finish_reason is not None
                yield self._piece(update.text, len(update.token_ids), ended)

    def whole(self) -> Piece:
        """Of a job that has finished."""
        return self._piece(self.sequence.text, len(self.sequence.token_ids), True)

    def counts(self) -> TurnCounts:
        request = self.job.requests[0]
        return TurnCounts(
            prompt=len(request.message.prompt_token_ids),
            cached=request.num_cached_tokens or 0,
            completion=len(self.sequence.token_ids),
            reasoning=self._shape.reasoning_tokens([self._reader]) or 0,
        )

    def _piece(self, text: str, num_tokens: int, ended: bool) -> Piece:
        events = self._reader.read(text, num_tokens, ended)
        return Piece(events, self._reader.logprobs(self.sequence, num_tokens) or [])
