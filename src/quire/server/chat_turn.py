"""ChatTurn: a chat answer of one choice as events, for APIs that are chat in another dress."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from quire.engine.frontend_request import TrackedSequence
from quire.server.chat_shape import ChatReader, ChatShape
from quire.server.job import Job
from quire.text.tools.events import Event


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
        """So far."""
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
