"""Pace: how long the next step may wait to be planned.

A step is planned and queued while the one before it runs, so that the device never waits. What
comes once it is planned misses it: planned at once, a prompt waits for one and a half steps on
average. So it is planned as late as is safe, or when a prompt has come. A step that only decodes
takes about as long as the last such step did, one with prompts at least as long; planning and
queueing one that only decodes take what they took lately. Once in a hundred steps the device may
wait for that: less than what every prompt would wait for more care.
"""

import time
from collections import deque
from collections.abc import Callable

_RECENT = 32  # steps whose planning is remembered
_SPARE = 0.0003  # seconds, for the host to wake up
_MAX_SPARE = 0.005


class Pace:
    """Told of every step, it says how long there is. Times in seconds."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._planning: deque[float] = deque(maxlen=_RECENT)
        self._began: float | None = None  # the running step, if the device has not waited since
        self._last: tuple[int, float] | None = None  # sequences and seconds of a step
        self._spare = _SPARE  # more after the device had to wait

    def woke(self) -> None:
        """A step was queued on a device that had nothing to do."""
        self._began = None

    def queued(self, seconds: float, *, decodes: bool, late: bool) -> None:
        """A step behind the running one took so long to plan and queue. `decodes`: it computes no
        prompts. `late`: the running one had ended by then, and the device waited."""
        if decodes:
            self._planning.append(seconds)
        if late:
            self._began = None
        if late and decodes:
            self._last = None
            self._spare = min(2 * self._spare, _MAX_SPARE)
        else:
            self._spare = max(_SPARE, 0.99 * self._spare)

    def ended(self, num_decoding: int | None) -> None:
        """A step of so many sequences, None if it computed prompts, has just ended, and the next,
        if one is queued, has begun."""
        now = self._clock()
        if num_decoding is not None and self._began is not None:
            self._last = num_decoding, now - self._began
        self._began = now

    def left(self, num_sequences: int) -> float:
        """Until the step after the running one, of so many sequences, should be planned; 0 for at
        once."""
        if self._began is None or self._last is None or not self._planning:
            return 0.0
        count, seconds = self._last
        takes = seconds * min(1.0, num_sequences / count)  # at least
        planning = sorted(self._planning)[-2:][0]  # but for the longest, which may be a mishap
        return max(0.0, self._began + takes - planning - self._spare - self._clock())
