"""EngineCore: schedule, submit, collect. Token ids in, token ids out; no text, no torch.

While a step runs on the device, the next is planned and queued: up to `async_steps` steps are
in flight beyond the one being waited for, and the host learns sampled tokens that many steps
late. With 0 each step is collected before the next is planned.
"""

import time
from collections import deque
from typing import Protocol

from quire.core import env
from quire.core.errors import EngineDeadError
from quire.core.messages import (
    AbortRequests,
    AddRequest,
    EngineStats,
    EngineView,
    SequenceDelta,
    StepOutputs,
)
from quire.core.plan import StepPlan, StepResult
from quire.engine.pace import Pace
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


class Runner(Protocol):
    """The device's side. Plans are executed in the order they are submitted."""

    def submit(self, plan: StepPlan) -> Ticket:
        """Queue a step; does not wait for it."""

    @property
    def is_capturing(self) -> bool:
        """Whether another thread captures a graph now, which may hold `submit` up."""

    def close(self) -> None:
        """Wait for its threads; no step may follow."""


class EngineCore:
    """One scheduler in front of one runner. After `shutdown`, and once the device has failed,
    every call but `has_work` and `shutdown` raises EngineDeadError."""

    def __init__(self, scheduler: Scheduler, runner: Runner, async_steps: int) -> None:
        self._live: Scheduler | None = scheduler
        self._runner: Runner | None = runner
        self._depth = async_steps
        self._in_flight: deque[tuple[StepPlan, Ticket]] = deque()
        self._pace = Pace()
        self._check = env.debug()

    @property
    def _scheduler(self) -> Scheduler:
        if self._live is None:
            raise EngineDeadError("the engine has been shut down; make a new LLM")
        return self._live

    def add(self, request: AddRequest) -> None:
        """Queue a request; its first delta comes from a later `step`."""
        self._scheduler.add(request)

    def abort(self, request: AbortRequests) -> None:
        """Stop sequences; their pages are free for the next plan. Unknown ids are ignored."""
        self._scheduler.abort(request)

    def has_work(self) -> bool:
        """Whether `step` would do anything."""
        return self._live is not None and (bool(self._in_flight) or self._live.has_work())

    def step(self) -> StepOutputs:
        """Queue what can be queued, wait for the oldest step in flight, and say what it gave;
        empty outputs if nothing can run.

        Raises:
            EngineDeadError: the device failed. The engine cannot be used any more.
        """
        scheduler = self._scheduler
        try:
            deltas = self._step(scheduler)
        except RuntimeError as error:  # torch raises these for device faults and lack of memory
            self._live = self._runner = None  # what they hold can be freed
            self._in_flight.clear()
            raise EngineDeadError(
                f"the engine stopped: {str(error).splitlines()[0]}; make a new LLM to go on"
            ) from error
        if self._check and not self.has_work():
            scheduler.check_integrity()
        return StepOutputs(deltas, scheduler.stats())

    def _step(self, scheduler: Scheduler) -> list[SequenceDelta]:
        assert self._runner is not None
        while len(self._in_flight) <= self._depth:
            began = time.perf_counter()
            plan = scheduler.plan()
            if plan is None and not self._in_flight:
                scheduler.wait_for_grammars(GRAMMAR_WAIT_S)
                plan = scheduler.plan()
            if plan is None:
                break
            self._in_flight.append((plan, self._runner.submit(plan)))
            if len(self._in_flight) == 1:
                self._pace.woke()
            else:
                self._pace.queued(
                    time.perf_counter() - began,
                    decodes=_num_decoding(plan) is not None,
                    late=self._in_flight[-2][1].ready(),
                )
        if not self._in_flight:
            return scheduler.take_deltas()
        plan, ticket = self._in_flight.popleft()
        result = ticket.result()
        self._pace.ended(_num_decoding(plan))
        return scheduler.update(plan, result)

    def time_left(self) -> float:
        """Seconds that `step` may wait for requests, while the device is busy (see `Pace`)."""
        if not self._in_flight or self._scheduler.has_waiting:
            return 0.0
        assert self._runner is not None  # as steps are in flight
        if self._runner.is_capturing:
            return 0.0
        return self._pace.left(len(self._in_flight[0][0].rows))

    def stats(self) -> EngineStats:
        return self._scheduler.stats()

    def view(self) -> EngineView:
        """Pages and sequences at this moment, for people."""
        return self._scheduler.view()

    def reset_prefix_cache(self) -> bool:
        """Forget every cached page; False (and nothing done) while sequences hold pages."""
        return self._scheduler.reset_prefix_cache()

    def shutdown(self) -> None:
        """Collect what is in flight, and let go of the runner. May be called again."""
        scheduler, runner = self._live, self._runner
        self._live = self._runner = None
        if scheduler is None or runner is None:
            return
        deadline = time.monotonic() + 5.0
        while self._in_flight and time.monotonic() < deadline:
            self._in_flight.popleft()[1].result()
        scheduler.shutdown()
        runner.close()


def _num_decoding(plan: StepPlan) -> int | None:
    """Sequences of a step that only decodes; None for one that computes prompts, too."""
    return len(plan.rows) if plan.num_tokens == len(plan.rows) else None
