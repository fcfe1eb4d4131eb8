"""Job: one HTTP request's generations, from admission to the last byte.

Several prompts (and `n` of each) are one job; its sequences are numbered as the answer's choices:
prompt index times `n` plus sample index.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

from starlette.requests import Request
from starlette.types import Receive

from quire.core.errors import RequestError
from quire.core.pooling_params import PoolingParams
from quire.core.sampling_params import SamplingParams
from quire.engine.frontend import Update
from quire.engine.frontend_prompt import Prompt
from quire.engine.frontend_request import TrackedRequest, TrackedSequence
from quire.server.access import KEY_SCOPE
from quire.server.admission import RequestFacts, Seat
from quire.server.dispatch import Generation, Mailbox
from quire.server.errors import APIError, ClientGoneError, TooBusyError, deadline_passed
from quire.server.state import ServerState, Serving

_PRIORITY_HEADERS = ("x-quire-priority", "x-vllm-priority")


class Job:
    """Use `open`, and `close` whatever happens."""

    def __init__(self, state: ServerState, serving: Serving, mailbox: Mailbox) -> None:
        state.open.add(self.end)
        self.state = state
        self.serving = serving
        self.requests: list[TrackedRequest] = []
        self._mailbox = mailbox
        self._generations: list[Generation] = []
        self._gone: asyncio.Task[None] | None = None  # done once the client has left
        self._seat: Seat | None = None
        self._over: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self._clock: asyncio.TimerHandle | None = None
        self._closed = False

    @classmethod
    async def open(
        cls,
        state: ServerState,
        http: Request,
        prompts: Sequence[Prompt],
        params: SamplingParams | PoolingParams,
        *,
        request_id: str,
        priority: int,
        streaming: bool,
        timeout: float | None = None,
    ) -> "Job":
        """Check every prompt, wait for admission, and submit them all.

        Args:
            http: its client's leaving ends the job; its body has been read.
            request_id: the generations' ids are this and the prompt's index.
            priority: the body's; a header's goes before it.
            streaming: whether `updates` will be read, rather than `finished`.
            timeout: seconds the request gives itself; the server's own limit holds too.

        Raises:
            RequestError, APIError, TooBusyError: refused, or too late; nothing has run.
            ClientGoneError: while waiting for admission.
        """
        job = cls(state, state.ready(), Mailbox(streaming))
        try:
            priority = _priority(http, priority)
            job._set_deadline(timeout)
            prepare = job.serving.dispatcher.tracker.prepare
            job.requests = [
                prepare(prompt, params, request_id=f"{request_id}-{index}", priority=priority)
                for index, prompt in enumerate(prompts)
            ]
            key = http.scope.get(KEY_SCOPE)
            await job._admit(http, key, priority)
            job._submit(key)
        except BaseException as error:
            if isinstance(error, TooBusyError):
                state.metrics.on_rejected(error.limit)
            job.close()
            raise
        return job

    def _set_deadline(self, timeout: float | None) -> None:
        limits = [t for t in (timeout, self.state.config.request_timeout) if t is not None]
        if limits:
            late = deadline_passed(min(limits))
            self._clock = asyncio.get_running_loop().call_later(min(limits), self.end, late)

    async def _admit(self, http: Request, key: str | None, priority: int) -> None:
        self._gone = asyncio.create_task(_disconnected(http.receive))
        self._gone.add_done_callback(self._on_gone)
        messages = [request.message for request in self.requests]
        facts = RequestFacts(
            key=key,
            num_prompt_tokens=sum(len(m.prompt_token_ids) for m in messages),
            num_sequences=sum(m.params.n for m in messages),
            max_tokens=sum(m.max_tokens * m.params.n for m in messages),
            priority=priority,
        )
        self._seat = self.state.admission.admit_at_once(facts)
        if self._seat is None:
            await self._wait_for_turn(facts)

    async def _wait_for_turn(self, facts: RequestFacts) -> None:
        admitting = asyncio.ensure_future(self.state.admission.admit(facts))
        try:
            events: set[asyncio.Future[Any]] = {admitting, self._over}
            await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
            if admitting.done():
                self._seat = admitting.result()
            if self._over.done():
                raise self._over.result()
        finally:
            admitting.cancel()

    def _submit(self, key: str | None) -> None:
        choice = 0
        for request in self.requests:
            generation = self.serving.dispatcher.start(request, key, self._mailbox, choice)
            self._generations.append(generation)
            choice += request.message.params.n

    def _on_gone(self, gone: "asyncio.Future[None]") -> None:
        if not gone.cancelled():
            self.end(ClientGoneError("the client closed the connection"))

    def end(self, error: Exception) -> None:
        """Give it up, wherever it is: whoever waits for it gets this error."""
        if not self._over.done():
            self._over.set_result(error)
        for generation in self._generations:
            self.serving.dispatcher.cancel(generation)
        self._mailbox.fail(error)

    @property
    def sequences(self) -> list[TrackedSequence]:
        """All of them, by choice."""
        return [sequence for request in self.requests for sequence in request.sequences]

    async def updates(self, interval: int = 1) -> AsyncIterator[dict[int, Update]]:
        """What came since the last turn, by choice, until every sequence has finished.

        Args:
            interval: a choice's tokens are held back until there are that many; its first and
                its last never are.

        Raises:
            APIError: 500, a sequence failed.
            ClientGoneError, EngineDeadError: there is nothing more to say.
        """
        held = _Held(interval)
        left = len(self.sequences)
        while left:
            updates = await self._mailbox.take()
            for update in updates.values():
                if update.sequence.finish_reason is not None:
                    left -= 1
                    _raise_if_failed(update.sequence)
            yield updates if interval == 1 else held.due(updates)

    async def finished(self) -> list[TrackedRequest]:
        """Wait for the end of every sequence. Raises as `updates` does."""
        while not all(request.finished for request in self.requests):
            await self._mailbox.take()
        for sequence in self.sequences:
            _raise_if_failed(sequence)
        return self.requests

    def close(self) -> None:
        """Give everything back; what is unfinished is aborted. May be called again."""
        if self._closed:
            return
        self._closed = True
        self.state.open.discard(self.end)
        if self._clock is not None:
            self._clock.cancel()
        if self._gone is not None:
            self._gone.cancel()
        for generation in self._generations:
            self.serving.dispatcher.cancel(generation)
        if self._seat is not None:
            self._seat.release(sum(len(s.token_ids) for s in self.sequences))


class _Held:
    """Updates that are not yet due."""

    def __init__(self, interval: int) -> None:
        self._interval = interval
        self._updates: dict[int, Update] = {}
        self._begun: set[int] = set()

    def due(self, updates: dict[int, Update]) -> dict[int, Update]:
        due = {}
        for choice, update in updates.items():
            held = self._updates.pop(choice, None)
            if held is not None:
                update.text = held.text + update.text
                update.token_ids = held.token_ids + update.token_ids
            if (
                choice in self._begun
                and len(update.token_ids) < self._interval
                and update.sequence.finish_reason is None
            ):
                self._updates[choice] = update
            else:
                self._begun.add(choice)
                due[choice] = update
        return due


async def _disconnected(receive: Receive) -> None:
    """Returns once the client of a request whose body has been read closes the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _raise_if_failed(sequence: TrackedSequence) -> None:
    if sequence.finish_reason == "error":
        raise APIError(500, sequence.error or "the generation failed", "InternalServerError")


def _priority(http: Request, in_body: int) -> int:
    """The header's priority where there is one (a gateway sets it), else the body's."""
    for name in _PRIORITY_HEADERS:
        value = http.headers.get(name)
        if value is not None:
            if not re.fullmatch(r"[+-]?\d{1,9}", value.strip()):
                raise RequestError(f"the header {name} must be an integer", "priority", value)
            return int(value)
    return in_body
