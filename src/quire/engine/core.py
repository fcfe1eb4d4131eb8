"""EngineCore: schedule, submit, collect. Token ids in, token ids out; no text, no torch.

While a step runs on the device, the next is planned and queued: up to `async_steps` steps are
in flight beyond the one being waited for, and the host learns sampled tokens that many steps
late. With 0 each step is collected before the next is planned.
"""

import time
from collections import deque
from typing import Protocol

from quire.core import env
from quire.core.messages import AbortRequests, AddRequest, EngineStats, EngineView, StepOutputs
from quire.core.plan import StepPlan, StepResult
from quire.scheduler.scheduler import Scheduler

# With nothing to run but sequences whose grammars are being worked on, a step waits so long for
# them and then gives the caller its turn.
GRAMMAR_WAIT_S = 0.005


class Ticket(Protocol):
    """A submitted step."""

    def ready(self) -> bool:
        """Whether `result` would return without waiting."""

    def result(self) -> StepResult:
        """Wait for the step; may be called once. Raises what the device raised."""


class Executor(Protocol):
    """Whatever runs the workers. Plans are executed in the order they are submitted."""

    def submit(self, plan: StepPlan) -> Ticket:
        """Queue a step; does not wait for it."""

    def shutdown(self) -> None:
        """Free the device's memory. The executor is unusable afterwards."""


class EngineCore:
    """One scheduler in front of one executor."""

    def __init__(self, scheduler: Scheduler, executor: Executor, async_steps: int) -> None:
        self._scheduler = scheduler
        self._executor = executor
        self._depth = async_steps
        self._in_flight: deque[tuple[StepPlan, Ticket]] = deque()
        self._check = env.debug()

    def add(self, request: AddRequest) -> None:
        """Queue a request; it is scheduled by a later `step`."""
        self._scheduler.add(request)

    def abort(self, request: AbortRequests) -> None:
        """Stop sequences; their pages are free for the next plan. Unknown ids are ignored."""
        self._scheduler.abort(request)

    def has_work(self) -> bool:
        """Whether `step` would do anything."""
        return bool(self._in_flight) or self._scheduler.has_work()

    def step(self) -> StepOutputs:
        """Queue what can be queued, wait for the oldest step in flight, and say what it gave."""
        while len(self._in_flight) <= self._depth:
            plan = self._scheduler.plan()
            if plan is None and not self._in_flight:
                self._scheduler.wait_for_grammars(GRAMMAR_WAIT_S)
                plan = self._scheduler.plan()
            if plan is None:
                break
            self._in_flight.append((plan, self._executor.submit(plan)))
        if self._in_flight:
            plan, ticket = self._in_flight.popleft()
            deltas = self._scheduler.update(plan, ticket.result())
        else:
            deltas = self._scheduler.take_deltas()
        if self._check and not self.has_work():
            self._scheduler.check_integrity()
        return StepOutputs(deltas, self.stats())

    def stats(self) -> EngineStats:
        """Queue lengths, cache use, counters."""
        return self._scheduler.stats()

    def view(self) -> EngineView:
        """Pages and sequences at this moment, for people."""
        return self._scheduler.view()

    def reset_prefix_cache(self) -> bool:
        """Forget every cached page; False if sequences still hold pages."""
        return self._scheduler.reset_prefix_cache()

    def shutdown(self) -> None:
        """Collect what is in flight, then free the device."""
        deadline = time.monotonic() + 5.0
        while self._in_flight and time.monotonic() < deadline:
            self._in_flight.popleft()[1].result()
        self._scheduler.shutdown()
        self._executor.shutdown()
