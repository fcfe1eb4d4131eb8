"""Who may run, and when: the bound of the queue, limits of each API key, fair shares between keys.

Runs on the front end's event loop. With one key, or none, requests go straight to the engine's own
queue. With several, they wait here once the engine is full, and the next to go is chosen by
start-time fair queueing (Goyal, Vin & Cheng 1996) over tokens: under contention each key gets
tokens in proportion to its weight, and an idle key saves up nothing. A refusal is a `TooBusyError`
with an estimate, from the measured rate, of when to try again. Deadlines are the job's.
"""

import asyncio
import heapq
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from quire.server.config import ServerConfig
from quire.server.errors import TooBusyError

UNKNOWN_RETRY = 5.0  # seconds, before anything has been measured
MAX_RETRY = 600.0
MIN_RETRY = 1.0
_MEASURED = 64  # finished requests that the service rate is measured over
_SMOOTHING = 0.1  # weight of the newest value in running means
_FIRST_OUTPUT = 128.0  # tokens a sequence is taken to give before any has ended
_MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class EngineRoom:
    """How much the engine takes, and how much of it waits inside, now."""

    max_num_seqs: int
    num_waiting: int

    @property
    def spare(self) -> int:
        """Sequences sent beyond those that run, so that a freed row is filled in the next step."""
        return max(2, self.max_num_seqs // 8)


class _Bucket:
    """So much a minute, at most a minute's worth at once; may be overdrawn by what was unknown."""

    def __init__(self, per_minute: int, now: float) -> None:
        self._limit = float(per_minute)
        self._balance = float(per_minute)
        self._since = now

    def wait(self, now: float, amount: float) -> float:
        """Seconds until `amount` may be drawn; 0 is now."""
        self._balance += (now - self._since) * self._limit / _MINUTE
        self._balance, self._since = min(self._balance, self._limit), now
        missing = min(amount, self._limit) - self._balance
        return max(0.0, missing * _MINUTE / self._limit)

    def draw(self, amount: float) -> None:
        self._balance -= amount


@dataclass(slots=True)
class _Flow:
    """One key's place. `finish` is the virtual time at which its last request's share ends."""

    weight: float
    finish: float = 0.0
    num_unfinished: int = 0
    requests: _Bucket | None = None
    tokens: _Bucket | None = None


@dataclass(order=True, slots=True)
class _Waiting:
    """A request in the queue; smallest first."""

    priority: int
    start: float
    number: int
    num_sequences: int = field(compare=False)
    num_prompt_tokens: int = field(compare=False)
    turn: "asyncio.Future[None]" = field(compare=False)


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """What admission may decide by, once the prompts are token ids."""

    key: str | None  # the API key's name
    num_prompt_tokens: int  # of all prompts
    num_sequences: int  # n times the prompts
    max_tokens: int  # of all sequences, at most
    priority: int


@dataclass(slots=True)
class Seat:
    """An admitted request."""

    owner: "FairAdmission"
    flow: _Flow
    facts: RequestFacts
    estimate: float  # output tokens it was charged for
    began: float

    def release(self, num_output_tokens: int) -> None:
        """It is over, however it ended, and gave so many tokens. Called once."""
        self.owner.leave(self, num_output_tokens)


class FairAdmission:
    """Admission of one server.

    Args:
        room: asked for the engine's state whenever it matters; None while it is not known.
        by_priority: the engine schedules by priority, so smaller ones go first here too.
    """

    def __init__(
        self,
        config: ServerConfig,
        room: Callable[[], EngineRoom | None],
        *,
        by_priority: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._room = room
        self._by_priority = by_priority
        self._clock = clock
        # Only what waits here can be ordered, or its tokens be counted.
        self._gated = len(config.api_keys) > 1 or config.max_queue_tokens is not None
        self._flows: dict[str | None, _Flow] = {
            key.name: self._flow(key.weight) for key in config.api_keys
        } or {None: self._flow(1.0)}
        self._queue: list[_Waiting] = []
        self._queued_tokens = 0
        self._in_engine = 0  # sequences
        self._virtual_time = 0.0
        self._number = 0
        self._ends: deque[float] = deque(maxlen=_MEASURED)
        self._mean_seconds: float | None = None  # of a request in the engine
        self._mean_output = _FIRST_OUTPUT  # tokens of a sequence

    def _flow(self, weight: float) -> _Flow:
        now, config = self._clock(), self._config
        flow = _Flow(weight)
        if config.requests_per_minute is not None:
            flow.requests = _Bucket(config.requests_per_minute, now)
        if config.tokens_per_minute is not None:
            flow.tokens = _Bucket(config.tokens_per_minute, now)
        return flow

    @property
    def num_waiting(self) -> int:
        """Requests that wait here, not in the engine."""
        return len(self._queue)

    def admit_at_once(self, facts: RequestFacts) -> Seat | None:
        """Enter, or None where `admit` waits. Raises as it does."""
        if self._queue or not self._fits():
            return None
        seat, start = self._take_seat(facts)
        self._enter(facts.num_sequences, start)
        return seat

    async def admit(self, facts: RequestFacts) -> Seat:
        """Wait for a turn if there is a queue.

        Raises:
            TooBusyError: the queue is full, or the key has used up its share.
        """
        seat = self.admit_at_once(facts)
        if seat is None:
            seat, start = self._take_seat(facts)
            await self._wait(seat, start)
        return seat

    def _take_seat(self, facts: RequestFacts) -> tuple[Seat, float]:
        """A seat of the request's key, charged for it, and the virtual time of its start."""
        flow = self._flows.get(facts.key)
        if flow is None:  # a request without a key, where only some paths need one
            flow = self._flows[facts.key] = self._flow(1.0)
        self._check_key(flow, facts)
        self._check_queue(facts)
        now = self._clock()
        if flow.requests is not None:
            flow.requests.draw(1.0)
        if flow.tokens is not None:
            flow.tokens.draw(float(facts.num_prompt_tokens))
        estimate = min(float(facts.max_tokens), self._mean_output * facts.num_sequences)
        start = max(self._virtual_time, flow.finish)
        flow.finish = start + (facts.num_prompt_tokens + estimate) / flow.weight
        flow.num_unfinished += 1
        return Seat(self, flow, facts, estimate, now), start

    async def _wait(self, seat: Seat, start: float) -> None:
        facts = seat.facts
        self._number += 1
        entry = _Waiting(
            facts.priority if self._by_priority else 0,
            start,
            self._number,
            facts.num_sequences,
            facts.num_prompt_tokens,
            asyncio.get_running_loop().create_future(),
        )
        heapq.heappush(self._queue, entry)
        self._queued_tokens += entry.num_prompt_tokens
        try:
            await entry.turn
        except asyncio.CancelledError:
            if entry.turn.done() and not entry.turn.cancelled():  # its turn came in that moment
                self.leave(seat, 0)
                raise
            self._queue.remove(entry)
            heapq.heapify(self._queue)
            self._queued_tokens -= entry.num_prompt_tokens
            seat.flow.num_unfinished -= 1
            self._correct(seat, -seat.estimate - facts.num_prompt_tokens)
            raise
        seat.began = self._clock()

    def _fits(self) -> bool:
        room = self._room()
        if not self._gated or room is None or self._in_engine == 0:
            return True
        full = self._in_engine >= room.max_num_seqs + room.spare
        return not full and room.num_waiting < room.spare

    def _enter(self, num_sequences: int, start: float) -> None:
        if self._in_engine == 0:  # a new busy period: idle time is no service time
            self._ends.clear()
            self._ends.append(self._clock())
        self._in_engine += num_sequences
        self._virtual_time = max(self._virtual_time, start)

    def leave(self, seat: Seat, num_output_tokens: int) -> None:
        """A seat is free: settle what it cost, and let the next ones in."""
        facts, flow, now = seat.facts, seat.flow, self._clock()
        self._in_engine -= facts.num_sequences
        flow.num_unfinished -= 1
        if flow.tokens is not None:
            flow.tokens.draw(float(num_output_tokens))
        self._correct(seat, num_output_tokens - seat.estimate)
        if num_output_tokens:
            self._ends.append(now)
            seconds = now - seat.began
            mean = seconds if self._mean_seconds is None else self._mean_seconds
            self._mean_seconds = mean + _SMOOTHING * (seconds - mean)
            each = num_output_tokens / facts.num_sequences
            self._mean_output += _SMOOTHING * (each - self._mean_output)
        while self._queue and self._fits():
            entry = heapq.heappop(self._queue)
            self._queued_tokens -= entry.num_prompt_tokens
            self._enter(entry.num_sequences, entry.start)
            entry.turn.set_result(None)

    def _correct(self, seat: Seat, tokens: float) -> None:
        """Charge the flow for what the estimate missed."""
        flow = seat.flow
        flow.finish = max(self._virtual_time, flow.finish + tokens / flow.weight)

    # --- refusals ---

    def _check_key(self, flow: _Flow, facts: RequestFacts) -> None:
        config, now = self._config, self._clock()
        limit = config.max_concurrent_per_key
        if limit is not None and flow.num_unfinished >= limit:
            wait = None if self._mean_seconds is None else self._mean_seconds / limit
            raise _busy(
                f"{limit} requests of this API key are unfinished, and --max-concurrent-per-key"
                " allows no more; wait for one of them",
                wait,
                "max_concurrent_per_key",
            )
        if flow.requests is not None and (wait := flow.requests.wait(now, 1.0)):
            raise _busy(
                f"this API key has made its {config.requests_per_minute} requests of this minute"
                " (--requests-per-minute)",
                wait,
                "requests_per_minute",
            )
        tokens = float(facts.num_prompt_tokens)
        if flow.tokens is not None and (wait := flow.tokens.wait(now, max(1.0, tokens))):
            raise _busy(
                f"this API key has used its {config.tokens_per_minute} tokens of this minute"
                " (--tokens-per-minute)",
                wait,
                "tokens_per_minute",
            )

    def _check_queue(self, facts: RequestFacts) -> None:
        config, room = self._config, self._room()
        if room is None or (config.max_queue is None and config.max_queue_tokens is None):
            return
        if not self._queue and self._in_engine < room.max_num_seqs and not room.num_waiting:
            return  # it would not wait
        inside = max(0, self._in_engine - room.max_num_seqs, room.num_waiting)
        queued = len(self._queue) + inside
        if config.max_queue is not None and queued >= config.max_queue:
            raise _busy(
                f"{queued} requests are waiting, and --max-queue allows {config.max_queue};"
                " try again later",
                self._drain_seconds(queued),
                "max_num_queued_reqs",
            )
        tokens = self._queued_tokens + facts.num_prompt_tokens
        if config.max_queue_tokens is not None and tokens > config.max_queue_tokens:
            raise _busy(
                f"{self._queued_tokens} prompt tokens are waiting, and with this request's"
                f" {facts.num_prompt_tokens} they exceed --max-queue-tokens"
                f" {config.max_queue_tokens}; try again later",
                self._drain_seconds(queued),
                "max_num_queued_tokens",
            )

    def _drain_seconds(self, queued: int) -> float | None:
        """Until so many requests, and one that runs, have ended at the rate of late."""
        if len(self._ends) < 2:
            return self._mean_seconds
        passed = self._clock() - self._ends[0]
        return (queued + 1) * passed / (len(self._ends) - 1)


def _busy(message: str, seconds: float | None, limit: str) -> TooBusyError:
    wait = UNKNOWN_RETRY if seconds is None else seconds
    return TooBusyError(message, min(MAX_RETRY, max(MIN_RETRY, wait)), limit)
