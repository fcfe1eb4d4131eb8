"""What the APIs that are chat in another dress share: their bodies as chat bodies, an answer of one
choice as events, and these as parts, which the items of the responses API and the content blocks of
the messages API are made of."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from quire.core.errors import RequestError
from quire.engine.frontend_request import TrackedSequence
from quire.server.chat_shape import ChatReader, ChatShape
from quire.server.errors import refused
from quire.server.job import Job
from quire.server.protocol.chat import ChatCompletionRequest
from quire.server.protocol.common import Body
from quire.text.tools.events import (
    ContentDelta,
    Event,
    ReasoningDelta,
    ToolCallArguments,
    ToolCallStart,
)

ChatMessage = dict[str, Any]

# Fields of chat that the other APIs say in another way, or have no place for.
_CHATS_OWN = frozenset(
    ("n", "echo", "logprobs", "prompt_logprobs", "stream_options", "max_tokens",
     "max_completion_tokens")
)  # fmt: skip


def chat_request(body: Body, fields: Mapping[str, Any]) -> ChatCompletionRequest:
    """A chat body of these fields, and of those of chat that `body` has beside its own.

    Raises:
        RequestValidationError: as the chat route itself would.
        APIError: beam search is for chat alone.
    """
    extras = {k: v for k, v in (body.model_extra or {}).items() if k not in _CHATS_OWN}
    if extras.get("use_beam_search"):
        raise refused("use_beam_search", "use /v1/chat/completions")
    try:
        return ChatCompletionRequest.model_validate({**extras, **fields})
    except ValidationError as error:
        raise RequestValidationError(
            [{**each, "loc": ("body", *each["loc"])} for each in error.errors()]
        ) from None


def joined_text(content: Any, place: str, kinds: Sequence[str] = ("text",)) -> str:
    """A text, or the texts of parts of these kinds.

    Args:
        place: where it stands, such as "input[3]".

    Raises:
        RequestError: a part is none of these, or has no text.
    """
    if isinstance(content, str):
        return content
    field = place.split("[")[0]
    if not isinstance(content, list):
        raise RequestError(f"{place} needs a text or a list of parts", field)
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else type(part).__name__
        if kind not in kinds:
            raise RequestError(
                f"{place} has a part of type {kind!r}; only text is supported here", field
            )
        text = part.get("refusal" if kind == "refusal" else "text")
        if not isinstance(text, str):
            raise RequestError(f"{place} has a part without a text", field)
        texts.append(text)
    return "\n".join(texts)


def function_call(call_id: Any, name: Any, arguments: Any, place: str) -> dict[str, Any]:
    """A call of an earlier turn."""
    if not isinstance(name, str) or not isinstance(arguments, str):
        raise RequestError(f"{place} is a call without a name or arguments", place.split("[")[0])
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def function_tool(given: Any, schema: str, index: int) -> dict[str, Any]:
    """A tool that is written flat.

    Args:
        schema: the field that holds the schema of the parameters.
    """
    if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
        raise RequestError(f"tools[{index}] has no name", "tools")
    fields = {name: given.get(name) for name in ("name", "description", "strict")}
    fields["parameters"] = given.get(schema)
    return {"type": "function", "function": {k: v for k, v in fields.items() if v is not None}}


def tool_fields(tools: list[dict[str, Any]], choice: Any) -> dict[str, Any]:
    """Chat's `tools` and `tool_choice`. Without tools, only a choice that needs one is passed on,
    to be refused."""
    if tools:
        return {"tools": tools, "tool_choice": choice}
    return {} if choice in (None, "auto", "none") else {"tool_choice": choice}


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
