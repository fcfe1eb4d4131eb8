"""Dispatcher: a step's outputs to the responses that wait for them.

Runs on the event loop and never waits. A response that is slow (its client reads slowly) does
not hold the others up: what comes meanwhile is merged, so that it waits as one piece a sequence.
"""

import asyncio
from dataclasses import dataclass

from quire.core.messages import StepOutputs
from quire.engine.frontend import RequestTracker, Update
from quire.engine.frontend_request import TrackedRequest
from quire.engine.remote import RemoteEngine
from quire.metrics.registry import ServerMetrics


class Mailbox:
    """What one HTTP response waits on: the updates of one or several requests.

    Args:
        streaming: wake the reader for every update; else only when a request has finished.
    """

    __slots__ = ("_error", "_news", "_pending", "_waiter", "streaming")

    def __init__(self, streaming: bool = True) -> None:
        self.streaming = streaming
        self._pending: dict[int, Update] = {}
        self._news = False
        self._error: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None

    def push(self, choice: int, update: Update) -> None:
        """An update of the response's choice-th sequence."""
        if self.streaming:
            earlier = self._pending.get(choice)
            if earlier is None:
                self._pending[choice] = update
            else:
                earlier.text += update.text
                earlier.token_ids = earlier.token_ids + update.token_ids
        elif not update.request.finished:
            return
        self._wake()

    def fail(self, error: BaseException) -> None:
        """The next (or waiting) `take` raises this."""
        if self._error is None:
            self._error = error
        self._wake()

    def _wake(self) -> None:
        self._news = True
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def take(self) -> dict[int, Update]:
        """Wait for news; the merged update of each choice that has one, in the order they came
        (nothing, without streaming). One reader at a time."""
        if not self._news:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._error is not None:
            raise self._error
        self._news = False
        pending, self._pending = self._pending, {}
        return pending


@dataclass(slots=True, eq=False)
class Generation:
    """One submitted request. Leaving it unfinished costs the engine work: `Dispatcher.cancel` it.

    Args:
        key: name of the API key that asked.
        mailbox: what its updates go to; others of the same response may share it.
        first_choice: the number that its first sequence has there.
    """

    request: TrackedRequest
    key: str | None
    mailbox: Mailbox
    first_choice: int
    last_token_time: float | None = None


class Dispatcher:
    """All unfinished generations of one engine.

    Args:
        tracker: belongs to this object from now on.
    """

    def __init__(
        self, tracker: RequestTracker, engine: RemoteEngine, metrics: ServerMetrics
    ) -> None:
        self.tracker = tracker
        self.metrics = metrics
        self._engine = engine
        self._generations: dict[str, Generation] = {}

    def start(
        self, request: TrackedRequest, key: str | None, mailbox: Mailbox, first_choice: int = 0
    ) -> Generation:
        """Send a request that `tracker` has prepared; its id is made unique. See `Generation`."""
        request.message.request_id = self._free_id(request.request_id)
        generation = Generation(request, key, mailbox, first_choice)
        message = self.tracker.start(request)
        self._generations[request.request_id] = generation
        self.metrics.on_request_arrived(request, key)
        self._engine.add(message)
        return generation

    def _free_id(self, request_id: str) -> str:
        """The id, or one like it: two clients may well choose the same."""
        candidate, count = request_id, 1
        while candidate in self._generations:
            count += 1
            candidate = f"{request_id}~{count}"
        return candidate

    def on_outputs(self, outputs: StepOutputs) -> None:
        """Take a step's outputs; wakes the responses they belong to."""
        metrics = self.metrics
        metrics.on_step(outputs)
        processed = self.tracker.process(outputs.deltas)
        for abort in processed.aborts:
            self._engine.abort(abort)
        generations = self._generations
        ended: list[Generation] = []
        # Writing takes 30 us a chunk: those that have waited longest, for a first one, go first.
        for update in sorted(
            processed.updates, key=lambda u: len(u.sequence.token_ids) > len(u.token_ids)
        ):
            request = update.request
            generation = generations[request.message.request_id]
            if update.token_ids:
                self._count(generation, len(update.token_ids))
            generation.mailbox.push(generation.first_choice + update.sequence.index, update)
            if update.sequence.finish_reason is not None and request.num_unfinished == 0:
                ended.append(generation)
        for generation in dict.fromkeys(ended):  # two sequences may end in one step
            self._end(generation, "stop")

    def _count(self, generation: Generation, num_tokens: int) -> None:
        request, last = generation.request, generation.last_token_time
        now = request.metrics.last_token_time
        generation.last_token_time = now
        if last is None or now is None:
            self.metrics.on_first_token(request, generation.key)
            self.metrics.on_tokens(request, num_tokens, None)
        else:
            self.metrics.on_tokens(request, num_tokens, now - last)

    def cancel(self, generation: Generation) -> None:
        """Stop a generation, if it has not finished."""
        message = self.tracker.abort(generation.request.request_id)
        if message is not None:
            self._end(generation, "abort")
            self._engine.abort(message)

    def fail_all(self, error: BaseException) -> None:
        """The engine is gone for good: every waiting response raises this."""
        for generation in list(self._generations.values()):
            self.tracker.abort(generation.request.request_id)
            self._end(generation, "error")
            generation.mailbox.fail(error)

    def _end(self, generation: Generation, status: str) -> None:
        """`status` is for sequences that have no reason of their own."""
        del self._generations[generation.request.request_id]
        self.metrics.on_finished(generation.request, status, generation.key)

    @property
    def num_unfinished(self) -> int:
        return len(self._generations)
