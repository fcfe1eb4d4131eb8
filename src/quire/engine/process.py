"""The engine process: `python -m quire.engine.process`, started by `engine.child` alone.

Reads its launch line from standard input, loads the model, then repeats: take what messages
there are, run a step, send its results as one message. With nothing to do it sleeps in the socket
until a message comes. No text, no HTTP, no supervision: any error ends the process, and the front
end starts another.
"""

import ctypes
import faulthandler
import logging
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

import msgspec

from quire.core import garbage
from quire.core.config import EngineConfig
from quire.core.errors import EngineDeadError, QuireError, RequestError
from quire.core.logs import configure_logging
from quire.core.messages import (
    AbortRequests,
    AddRequest,
    AskView,
    EngineError,
    Hello,
    LoadProgress,
    Ready,
    StepOutputs,
    Stop,
    ToEngine,
    ViewReply,
)
from quire.engine.link import Link
from quire.engine.wire import Launch

if TYPE_CHECKING:
    from quire.engine.client import InProcessEngine

logger = logging.getLogger("quire")

_STDIN = 0
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_PROGRESS_INTERVAL = 0.1  # seconds between two reports
# Work that waits for something other than the device (a grammar being compiled, say) is looked
# at again after so many seconds, or when a message comes.
_BLOCKED_S = 0.005


class Loop:
    """Messages in, steps out, until told to stop."""

    def __init__(self, engine: "InProcessEngine", link: Link) -> None:
        self._engine = engine
        self._link = link
        self._num_steps = 0
        self._stopped = False

    def run(self) -> None:
        """Returns after `Stop`. Raises what a step raises."""
        engine, link = self._engine, self._link
        while True:
            self._receive(wait=not engine.has_work())
            while link.wait(engine.time_left()):
                self._receive()
            if self._stopped:
                return
            if link.refused:
                refused, link.refused = link.refused, []
                self._send(StepOutputs(refused, engine.stats()))
            if engine.has_work():
                self._step()

    def _receive(self, wait: bool = False) -> None:
        for message in self._link.receive(wait=wait):
            self._take(message)

    def _step(self) -> None:
        outputs = self._engine.step()
        num_steps = outputs.stats.num_steps
        if outputs.deltas or num_steps != self._num_steps:
            self._num_steps = num_steps
            self._send(outputs)
        else:
            self._link.wait(_BLOCKED_S)

    def _send(self, outputs: StepOutputs) -> None:
        outputs.num_received = self._link.num_requests
        outputs.stats.num_invalid = self._link.num_invalid
        self._link.send(outputs)

    def _take(self, message: ToEngine) -> None:
        match message:
            case AddRequest():
                try:
                    self._engine.add(message)
                except RequestError as error:  # the id is in use: its first owner keeps it
                    self._link.num_invalid += 1
                    logger.warning("engine: dropped a request: %s", error)
            case AbortRequests():
                self._engine.abort(message)
            case AskView(number):
                self._link.send(ViewReply(number, self._engine.view()))
            case Stop():
                self._stopped = True


class LoadReport:
    """Tells the front end how much of the weights is loaded. The loader calls it from its
    threads, but one at a time and while the main thread waits: the socket is in one's hands."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._began = self._ended = time.monotonic()
        self._next = 0.0
        self.num_bytes = 0

    @property
    def seconds(self) -> float:
        return self._ended - self._began

    def __call__(self, done: int, total: int) -> None:
        self.num_bytes = done
        self._ended = now = time.monotonic()
        if now >= self._next:
            self._next = now + _PROGRESS_INTERVAL
            self._link.send(LoadProgress("loading weights", done / total if total else None))


def load(config: EngineConfig, link: Link) -> "InProcessEngine":
    """Load the model, saying how far it is."""
    link.send(LoadProgress("importing libraries"))
    # Takes seconds, and the front end should have heard of us before.
    with garbage.kept_from_collection():
        from quire.engine.client import InProcessEngine
        from quire.weights.progress import loaded_line

    link.send(LoadProgress("loading weights"))
    report = LoadReport(link)
    engine = InProcessEngine(config, report)
    if report.num_bytes:
        logger.info(loaded_line(report.num_bytes, report.seconds))
    garbage.settle()
    return engine


def serve(launch: Launch) -> int:
    """Load, run and end; the exit status."""
    link = Link(launch.address)
    try:
        link.send(Hello())
        engine = load(launch.config, link)
        link.send(Ready(engine.model_info))
        Loop(engine, link).run()
        engine.shutdown()
    except Exception as error:
        link.send(why := _cause(error))
        logger.error("engine: %s", why.message)
        logger.debug("engine: stopped by", exc_info=error)
        return 1
    finally:
        link.close()
    return 0


def _cause(error: Exception) -> EngineError:
    """The error as the front end is told it: one line."""
    if isinstance(error, EngineDeadError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # whose own words say what the device did
    lines = str(error).splitlines() or [""]
    message = lines[0] if isinstance(error, QuireError) else f"{type(error).__name__}: {lines[0]}"
    return EngineError(type(error).__name__, message)


# --- the process around it ---


def die_with_parent(parent: int) -> None:
    """Leave nothing behind: end when the front end does, however it ends.

    Its end of our standard input closes with it; and Linux kills us even where no Python
    thread can run. Raises SystemExit if it is gone already.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit(1)

    def watch() -> None:
        while os.read(_STDIN, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, name="quire-parent", daemon=True).start()


def ignore_signals() -> None:
    """The front end alone decides when the engine ends: Ctrl-C in its terminal, or a service
    manager that signals every process of the service, must not cut running requests off."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def main() -> int:
    """The exit status: 0 after `Stop`, 1 after any error."""
    ignore_signals()
    with open(_STDIN, "rb", buffering=0, closefd=False) as stdin:
        try:
            launch = msgspec.json.decode(stdin.readline(), type=Launch)
        except msgspec.DecodeError as error:
            print(f"quire.engine.process is started by quire, not by hand ({error})")
            return 1
    die_with_parent(launch.parent)
    faulthandler.enable()  # a crash in native code shows where it was
    configure_logging(launch.log_level, launch.log_format)  # as the front end's own lines
    return serve(launch)


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    # Not sys.exit: after a device error, freeing the device in the interpreter's last moments
    # may hang, and there is nothing left to do.
    os._exit(status)
