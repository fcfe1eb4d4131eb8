"""Workers: threads for jobs that must not be waited for, some of which may take very long.

A thread cannot be stopped. One that has been busy for longer than `patience` is no longer
counted on: another takes its place, and it ends when its job does.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from quire.structured.limits import start_thread


@dataclass(slots=True, eq=False)
class Job:
    """A call on its way through the workers.

    `started` is set when a worker takes it. `cpu_seconds` and one of `result` and `error` are
    set when it is done; until then only its worker looks at what it works on.
    """

    call: Callable[[], Any]
    started: float | None = None
    cpu_seconds: float = 0.0
    result: Any = None
    error: BaseException | None = None

    def run(self) -> None:
        """Call, and keep what came of it."""
        self.started = time.monotonic()
        before = time.thread_time()
        try:
            self.result = self.call()
        # Whatever happens must end one request and no other; a panic of the library is not an
        # Exception, and nobody interrupts this thread.
        except BaseException as error:
            self.error = error
        self.cpu_seconds = time.thread_time() - before


class Workers:
    """A few threads, started when there is work. Used by one thread.

    Args:
        num_threads: how many that are not stuck.
        max_threads: how many at all.
        patience: seconds after which a busy thread counts as stuck.
    """

    def __init__(self, name: str, num_threads: int, max_threads: int, patience: float) -> None:
        self._name = name
        self._num_threads = num_threads
        self._max_threads = max_threads
        self._patience = patience
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._busy: dict[int, float | None] = {}  # thread -> since when, None: idle
        self._num_started = 0

    def submit(self, job: Job) -> None:
        self._jobs.put(job)
        self.tend()

    def tend(self) -> None:
        """Start threads where they are wanted: for waiting jobs, in place of stuck ones."""
        if self._jobs.empty():
            return
        late = time.monotonic() - self._patience
        with self._lock:
            counted_on = sum(1 for since in self._busy.values() if since is None or since > late)
            if counted_on >= self._num_threads or len(self._busy) >= self._max_threads:
                return
            number = self._num_started
            self._num_started += 1
            self._busy[number] = None
        start_thread(lambda: self._work(number), f"{self._name}-{number}")

    def done(self, timeout: float | None = None) -> Job | None:
        """A finished job, waiting for one if a timeout is given; None if there is none."""
        with contextlib.suppress(queue.Empty):
            return self._done.get(timeout=timeout) if timeout else self._done.get_nowait()
        return None

    def close(self) -> None:
        """Let the threads end when their jobs have."""
        with self._lock:
            for _ in self._busy:
                self._jobs.put(None)

    def _work(self, number: int) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                break
            self._busy[number] = time.monotonic()
            job.run()
            self._done.put(job)
            with self._lock:
                self._busy[number] = None
                if len(self._busy) > self._num_threads:
                    break
        with self._lock:
            del self._busy[number]
