"""The thread that captures graphs beside the engine: what steps miss at once, the rest while no
step is submitted. Nothing waits for it, and what it has captured serves the next step."""

import logging
import threading
import weakref
from collections.abc import Sequence
from typing import Any

import torch

from quire.platform.caps import DeviceCaps
from quire.platform.streams import set_device
from quire.runner.graph_pool import BucketGraphs

logger = logging.getLogger("quire")

# Seconds without a step after which there is time for what no step has missed.
IDLE = 0.03
# Seconds from a step that missed a graph to its capture. Meanwhile that step is launched kernel by
# kernel, and their threads share the interpreter.
PAUSE = 0.05


class Captures:
    """Begins with `start`, ends with `close`, or when nobody holds it."""

    def __init__(
        self, kinds: Sequence[BucketGraphs[Any]], missed: threading.Event, caps: DeviceCaps
    ) -> None:
        """`missed` is set when there may be something to capture."""
        self._kinds, self._missed, self._caps = kinds, missed, caps
        self.busy = False  # with a capture, or the kernels of one
        self._num_steps = self._num_seen = 0
        self._closed = threading.Event()
        self._compiles_ahead = False
        self._error: Exception | None = None
        self._finalizer: weakref.finalize[..., Captures] | None = None

    def start(self) -> None:
        thread = threading.Thread(
            target=_capture,
            args=(weakref.ref(self), self._missed, self._closed, self._caps),
            name="quire-captures",
            daemon=True,
        )
        # At the interpreter's end, too: a thread that is stopped in a capture is in the way.
        self._finalizer = weakref.finalize(self, _stop, thread, self._missed, self._closed)
        thread.start()

    def note_step(self) -> None:
        """A step was submitted. Raises what a capture has raised."""
        if self._error is not None:
            raise RuntimeError(f"a CUDA graph's capture failed: {self._error}") from self._error
        self._num_steps += 1

    def close(self) -> None:
        """Wait for the capture under way; there will be no other."""
        if self._finalizer is not None:
            self._finalizer()

    def capture_next(self) -> bool:
        """Capture one graph; False if there is none to capture, now or later."""
        idle = not self.stepping
        self._num_seen = self._num_steps
        self.busy = True
        try:
            if idle and not self._compiles_ahead:  # all at once, not one graph's after the other's
                self._compiles_ahead = True
                for kind in self._kinds:
                    kind.compile_ahead()
            return any(kind.capture_next(idle) for kind in self._kinds) or not idle
        except Exception as error:
            if not self._closed.is_set():
                self._error = error
                logger.error("a CUDA graph's capture failed: %s", error)
            return False
        finally:
            self.busy = False

    @property
    def stepping(self) -> bool:
        """Whether steps were submitted since the last look for something to capture."""
        return self._num_steps != self._num_seen


@torch.inference_mode()
def _capture(
    captures: "weakref.ref[Captures]",
    missed: threading.Event,
    closed: threading.Event,
    caps: DeviceCaps,
) -> None:
    set_device(caps)
    more = True  # to capture when there is time
    while not closed.is_set():
        if missed.wait(IDLE if more else None):
            closed.wait(PAUSE)
        missed.clear()
        owner = captures()
        if owner is None or closed.is_set():
            return
        more = owner.capture_next()
        del owner


def _stop(thread: threading.Thread, missed: threading.Event, closed: threading.Event) -> None:
    closed.set()
    missed.set()
    if thread is not threading.current_thread():
        thread.join()
