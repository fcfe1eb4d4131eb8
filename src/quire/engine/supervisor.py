"""What a supervisor decides: whether an engine is stuck, and when to start the next one.

Runs in the front end, on its event loop; the deeds are `engine.remote`'s.
"""

import asyncio
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from quire.core.messages import StepOutputs

Clock = Callable[[], float]


class StepWatch:
    """How long the engine has had work without finishing a step, and an alarm.

    There is a timer only while there is work: nothing wakes an idle front end.

    Args:
        on_stall: called with the age when it has reached `timeout`.
    """

    def __init__(
        self, timeout: float, on_stall: Callable[[float], None], clock: Clock = time.monotonic
    ) -> None:
        self._timeout = timeout
        self._on_stall = on_stall
        self._clock = clock
        self._since: float | None = None  # the last step, or the first request after an idle time
        self._num_sent = 0
        self._timer: asyncio.TimerHandle | None = None

    def sent(self) -> None:
        self._num_sent += 1
        if self._since is None:
            self._since = self._clock()
        if self._timer is None:
            self._look_again(self._timeout)

    def stepped(self, outputs: StepOutputs) -> None:
        stats = outputs.stats
        pending = stats.num_running or stats.num_waiting or outputs.num_received < self._num_sent
        self._since = self._clock() if pending else None

    def age(self) -> float | None:
        """Seconds; None while the engine has nothing to do."""
        return None if self._since is None else self._clock() - self._since

    def reset(self) -> None:
        """The engine is gone; the next has been given nothing."""
        self._since, self._num_sent = None, 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_again(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._check)

    def _check(self) -> None:
        self._timer = None
        age = self.age()
        if age is None:
            return
        if age < self._timeout:
            self._look_again(self._timeout - age)
        else:
            self._on_stall(age)


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """When a dead engine's successor starts."""

    first_delay: float = 0.1  # seconds; doubles from one to the next
    max_delay: float = 10.0
    healthy_after: float = 60.0  # ready for so long, and the next death is a first one again
    max_failed_starts: int = 5  # in a row, without one becoming ready


class Backoff:
    """Counts deaths and failed starts.

    An engine that becomes ready and dies is restarted for ever, ever more slowly: whichever
    request is to blame ends by `engine.submissions`. One that never becomes ready is not.
    """

    def __init__(self, policy: RestartPolicy, clock: Clock = time.monotonic) -> None:
        self._policy = policy
        self._clock = clock
        self._ready_since: float | None = None
        self._num_delays = 0
        self._num_failed = 0

    def ready(self) -> None:
        self._ready_since = self._clock()
        self._num_failed = 0

    def died(self) -> float | None:
        """An engine has ended: seconds until the next is to start; None to give up."""
        since, self._ready_since = self._ready_since, None
        if since is None:
            self._num_failed += 1
            if self._num_failed >= self._policy.max_failed_starts:
                return None
        elif self._clock() - since >= self._policy.healthy_after:
            self._num_delays = 0
        delay = self._policy.first_delay * 2.0 ** min(self._num_delays, 30)
        self._num_delays += 1
        return min(delay, self._policy.max_delay)


def describe_exit(status: int) -> str:
    """Why a process ended, from its exit status (negative: the signal)."""
    if status >= 0:
        return f"exit status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hint = "; out of memory, if nobody sent it" if -status == signal.SIGKILL else ""
    return f"killed by {name}{hint}"
