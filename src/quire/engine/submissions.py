"""Submissions: what an engine that may die has been told, and what it is still to be told.

Nothing is told twice and nothing is lost. While there is no engine, messages are held; a fresh
engine is given what the front end says is unfinished, then what was held. And a request that
kills every engine it is given must end alone, without taking others with it:

    deaths of a request   engines that died with it unfinished, since its last new token
    suspect               one more death, and it ends with an error
    trial                 suspects are given to a fresh engine one at a time, the next when the
                          one before has a token, everything else after them; if the engine
                          dies meanwhile, the death is that suspect's alone

Plain bookkeeping in the front end's thread: no clock, no socket, no process.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from quire.core.messages import AbortRequests, AddRequest, SequenceDelta

Submission = AddRequest | AbortRequests

MAX_DEATHS = 3


class Submissions:
    """The requests of one front end.

    Args:
        on_poisoned: called with (request, message) for a request that is given up, as
            `MAX_DEATHS` in a row had it unfinished; it is not submitted again.
    """

    def __init__(self, on_poisoned: Callable[[AddRequest, str], None]) -> None:
        self._on_poisoned = on_poisoned
        self._send: Callable[[Submission], None] | None = None  # None: there is no engine
        self._held: dict[str, list[Submission]] = {}  # not told, by request; in order
        self._deaths: dict[str, int] = {}
        self._suspects: deque[str] = deque()
        self._on_trial: str | None = None
        self._culprit: str | None = None  # the last death is this one's alone
        self.num_resumed = 0

    @property
    def watching(self) -> bool:
        """Whether `saw` has anything to look for. False in all of a healthy engine's life."""
        return bool(self._deaths)

    @property
    def holding(self) -> bool:
        """Whether a request added now would wait."""
        return self._send is None or self._on_trial is not None

    def add(self, message: AddRequest) -> None:
        """Submit a request, now or when an engine takes it."""
        self._deaths.pop(message.request_id, None)  # a new request under an old name
        if self._send is None or self._on_trial is not None:
            self._held[message.request_id] = [message]
        else:
            self._send(message)

    def abort(self, message: AbortRequests) -> None:
        """Stop sequences of a request, wherever it is."""
        if not message.indices:
            self._deaths.pop(message.request_id, None)
        held = self._held.get(message.request_id)
        if held is not None:
            if message.indices:
                held.append(message)
            else:
                del self._held[message.request_id]
        elif self._send is not None:  # a fresh engine need not hear of what died with the last
            self._send(message)
            if message.request_id == self._on_trial and not message.indices:
                self._next_trial()

    def saw(self, deltas: Iterable[SequenceDelta]) -> None:
        """A request that got a token, or ended, did not kill its engine."""
        for delta in deltas:
            if delta.request_id in self._deaths and (delta.token_ids or delta.finish_reason):
                del self._deaths[delta.request_id]
                if delta.request_id == self._on_trial:
                    self._next_trial()

    def engine_died(self) -> None:
        """The engine is gone. One that never became ready had been told nothing."""
        if self._send is None:
            return
        self._send = None
        self._culprit, self._on_trial = self._on_trial, None
        self._suspects.clear()

    def engine_ready(
        self, send: Callable[[Submission], None], unfinished: Sequence[Submission] | None
    ) -> None:
        """A fresh engine takes requests.

        Args:
            unfinished: what the engine before it had and did not finish (and, perhaps, what was
                held since), ready to be submitted again; None if there was none before it.
        """
        if unfinished is not None:
            self._take_back(unfinished)
        self._send = send
        self._suspects = deque(
            request_id for request_id, n in self._deaths.items() if n >= MAX_DEATHS - 1
        )
        self._next_trial()

    def give_up(self, unfinished: Sequence[Submission], message: str) -> None:
        """No engine will come any more: end every request."""
        held = [m for messages in self._held.values() for m in messages]
        requests = {m.request_id: m for m in (*unfinished, *held) if isinstance(m, AddRequest)}
        self._held, self._deaths = {}, {}
        for request in requests.values():
            self._on_poisoned(request, message)

    def _take_back(self, unfinished: Sequence[Submission]) -> None:
        """Hold what is unfinished, ahead of what is held already; count the death."""
        resumed: dict[str, list[Submission]] = {}
        for message in unfinished:
            resumed.setdefault(message.request_id, []).append(message)
        died_with = {request_id: None for request_id in resumed if request_id not in self._held}
        blamed = died_with if self._culprit is None else {self._culprit: None}
        deaths = {i: self._deaths.get(i, 0) + (i in blamed) for i in died_with}
        self._deaths = {i: n for i, n in deaths.items() if 0 < n < MAX_DEATHS}
        self._culprit = None
        given_up = [resumed.pop(i) for i, n in deaths.items() if n >= MAX_DEATHS]
        self.num_resumed += len(died_with) - len(given_up)
        self._held = resumed | {i: m for i, m in self._held.items() if i not in resumed}
        why = f"the engine died {MAX_DEATHS} times while running this request"
        for message in (m for messages in given_up for m in messages):
            if isinstance(message, AddRequest):
                self._on_poisoned(message, why)

    def _next_trial(self) -> None:
        assert self._send is not None
        while self._suspects:
            request_id = self._suspects.popleft()
            if messages := self._held.pop(request_id, None):
                self._on_trial = request_id
                for message in messages:
                    self._send(message)
                return
        self._on_trial = None
        held, self._held = self._held, {}
        for messages in held.values():
            for message in messages:
                self._send(message)
