"""ChatTurn: a chat answer of one choice as events, for APIs that are chat in another dress."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from quire.engine.frontend_request import TrackedSequence
from quire.server.answer import raise_failed
from quire.server.chat_shape import ChatShape
from quire.server.job import Job
from quire.server.logprobs import chat_logprobs
from quire.text.tools.events import ContentDelta, Event, ReasoningDelta


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
        self._reader = shape.reader()
        self._num_tokens = 0
        self._reasoning: list[str] = []

    @property
    def sequence(self) -> TrackedSequence:
        """The choice's; its finish_reason is None until the end."""
        return self.job.sequences[0]

    async def pieces(self) -> AsyncIterator[Piece]:
        """Of a job that streams, as they come.

        Raises:
            APIError: 500, the generation failed.
        """
        async for updates in self.job.updates():
            for update in updates.values():
                raise_failed([update.sequence])
                yield self._piece(
                    update.text, update.token_ids, update.sequence.finish_reason is not None
                )

    async def whole(self) -> Piece:
        """Of a job that does not stream. Raises as `pieces` does."""
        await self.job.finished()
        raise_failed(self.job.sequences)
        return self._piece(self.sequence.text, self.sequence.token_ids, True)

    def counts(self) -> TurnCounts:
        """So far."""
        request = self.job.requests[0]
        return TurnCounts(
            prompt=len(request.message.prompt_token_ids),
            cached=request.num_cached_tokens or 0,
            completion=len(self.sequence.token_ids),
            reasoning=self._shape.reasoning_tokens("".join(self._reasoning)) or 0,
        )

    def _piece(self, text: str, token_ids: list[int], ended: bool) -> Piece:
        start, self._num_tokens = self._num_tokens, self._num_tokens + len(token_ids)
        if self._reader is None:
            events: list[Event] = [ContentDelta(text)] if text else []
        else:
            events = list(self._reader.feed(text)) if text else []
            if ended:
                events += self._reader.finish()
        self._reasoning += [each.text for each in events if isinstance(each, ReasoningDelta)]
        return Piece(events, self._logprobs(start, len(token_ids)))

    def _logprobs(self, start: int, count: int) -> list[dict[str, Any]]:
        num_top = self._shape.num_top
        if num_top is None or not count:
            return []
        positions = self.sequence.logprobs(self._shape.tokenizer, start) or []
        content: list[dict[str, Any]] = chat_logprobs(
            positions[:count], num_top, self._shape.writer
        )["content"]
        return content
