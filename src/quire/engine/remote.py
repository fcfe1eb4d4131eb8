"""RemoteEngine: the front end's handle on an engine in a process of its own, kept alive.

Starts the process, speaks `core.messages` with it, and starts another when it dies or gets
stuck; every unfinished request then goes on in the new one from the tokens already delivered.
Lives on the front end's event loop and imports no torch. How a process is spawned and spoken to
is `engine.child`'s, what a fresh engine must be told `engine.submissions`', when to restart
`engine.supervisor`'s.
"""

import asyncio
import logging
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import get_args

import zmq

from quire.core import errors
from quire.core.config import EngineConfig
from quire.core.errors import EngineDeadError, QuireError, RequestError, nearest
from quire.core.messages import (
    AbortRequests,
    AddRequest,
    Control,
    ControlMethod,
    ControlReply,
    ControlResult,
    EngineError,
    EngineStats,
    FromEngine,
    Hello,
    LoadProgress,
    Ready,
    SequenceDelta,
    StepOutputs,
    Stop,
)
from quire.core.model_info import ModelInfo
from quire.engine.child import Child
from quire.engine.submissions import MAX_DEATHS, Submission, Submissions
from quire.engine.supervisor import Backoff, RestartPolicy, StepClock, describe_exit
from quire.engine.wire import FrontEndCodec, LogFormat

logger = logging.getLogger("quire")

STALL_TIMEOUT = 120.0  # seconds
CALL_TIMEOUT = 10.0
CONTROLS: dict[str, ControlMethod] = {name: name for name in get_args(ControlMethod)}
_LONGEST_SOCKET_PATH = 100  # sockaddr_un holds 107 characters, macOS' 103


class EngineState(Enum):
    """A dead engine's successor is RESTARTING until it is READY."""

    STARTING = "starting"
    LOADING = "loading"
    READY = "ready"
    RESTARTING = "restarting"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Progress:
    """What a starting engine is doing; `fraction` in [0, 1] where it is known."""

    phase: str
    fraction: float | None = None


class RemoteEngine:
    """An engine process and its supervision.

    Args:
        config: of the engine.
        on_outputs: called on the loop with what each step gave.
        on_restart: asked, when a fresh engine is ready, what to submit to it: every request the
            front end has not seen the end of, with `delivered` filled in.
        on_poisoned: called with (request id, message) for a request that will not be run again,
            because it was unfinished at `max_deaths` deaths in a row or no engine can be
            started. Without it, error deltas that say so go to `on_outputs`.
        on_failed: called once if the engine is given up, after every request has been ended.
        stall_timeout: seconds without a finished step, while there is work, after which the
            engine is killed and restarted.
        log_format: how the engine's process writes its log lines, to this one's standard error.

    All methods and callbacks belong to the thread of the event loop that ran `start`.
    """

    def __init__(
        self,
        config: EngineConfig,
        *,
        on_outputs: Callable[[StepOutputs], None],
        on_restart: Callable[[], Sequence[Submission]],
        on_poisoned: Callable[[str, str], None] | None = None,
        on_failed: Callable[[QuireError], None] | None = None,
        stall_timeout: float = STALL_TIMEOUT,
        policy: RestartPolicy | None = None,
        max_deaths: int = MAX_DEATHS,
        log_format: LogFormat = "plain",
    ) -> None:
        self._config = config
        self._on_outputs = on_outputs
        self._on_restart = on_restart
        self._on_poisoned = on_poisoned
        self._on_failed = on_failed
        self._stall_timeout = stall_timeout
        self._log_format: LogFormat = log_format
        self.state = EngineState.STARTING
        self.progress = Progress("starting")
        self.model_info: ModelInfo | None = None
        self.stats: EngineStats | None = None  # of this engine's last step
        self.num_restarts = 0
        self.failure: QuireError | None = None
        self._submissions = Submissions(self._poison, max_deaths)
        self._checker = FrontEndCodec()
        self._steps = StepClock()
        self._backoff = Backoff(policy or RestartPolicy())
        self._stall_check: asyncio.TimerHandle | None = None
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._supervision: asyncio.Task[None] | None = None
        self._child: Child | None = None
        self._num_children = self._num_invalid = 0
        self._last_words: EngineError | None = None
        self._calls: dict[int, asyncio.Future[ControlResult | None]] = {}
        self._num_calls = 0
        self._changed = asyncio.Event()  # of the state; a new one each time
        self._stopping = asyncio.Event()

    # --- its life ---

    async def start(self) -> None:
        """Spawn the engine; returns at once."""
        assert self._supervision is None, "started already"
        self._context = zmq.Context()
        self._directory = _private_directory()
        self._remove_directory = weakref.finalize(
            self, shutil.rmtree, self._directory, ignore_errors=True
        )
        self._supervision = asyncio.create_task(self._supervise(), name="quire-engine")

    async def wait_ready(self) -> ModelInfo:
        """Wait until the engine takes requests.

        Raises:
            QuireError: what keeps it from starting, in the class and words of the engine.
        """
        while True:
            if self.state is EngineState.READY:
                assert self.model_info is not None
                return self.model_info
            if self.state in (EngineState.FAILED, EngineState.STOPPED):
                raise self._why_over()
            await self._changed.wait()

    async def shutdown(self, timeout: float = 10.0) -> None:
        """End the engine and leave nothing behind; unfinished requests are dropped.

        Args:
            timeout: seconds for the current step to end; then the process is killed.
        """
        self._stopping.set()
        if self._supervision is None:
            self._change(EngineState.STOPPED)
            return
        child = self._child
        if child is not None and self.state is EngineState.READY:
            child.send(Stop())
            try:
                await asyncio.wait_for(child.exited.wait(), timeout)
            except TimeoutError:
                logger.warning("the engine did not stop within %g s; killing it", timeout)
        if child is not None:  # one that loads has nothing to save
            child.kill()
        await asyncio.wait([self._supervision])

    async def _supervise(self) -> None:
        """Start engines, one after the other, until told to stop or to give up."""
        try:
            while not self._stopping.is_set():
                cause = await self._run_one()
                if self._stopping.is_set():
                    break
                delay = self._after_death(cause)
                if delay is None:
                    return
                self.num_restarts += 1
                await _sleep_unless(self._stopping, delay)
            self._change(EngineState.STOPPED)
        except Exception as error:  # a bug; without a supervisor there is no engine
            logger.exception("the engine's supervisor failed")
            self._give_up(EngineDeadError(f"the engine's supervisor failed: {error}"))
        finally:
            self._clean_up()

    async def _run_one(self) -> str:
        """Run an engine to its end; why it ended, in words."""
        assert self._context is not None
        self._last_words = None
        self._steps.reset()
        self._num_children += 1
        try:
            self._child = child = Child(
                self._config,
                self._directory,
                self._num_children,
                self._context,
                self._take,
                self._log_format,
            )
        except OSError as error:
            return f"its process could not be started: {error}"
        try:
            status = await child.gone()
        finally:
            child.kill()
            child.close()
            self._num_invalid = self.num_invalid
            self._child = self.stats = None
            self._end_watch()
        return describe_exit(status) if self._last_words is None else self._last_words.message

    def _after_death(self, cause: str) -> float | None:
        """Seconds until the next engine is to start; None if there is to be none."""
        self._fail_calls(f"the engine died: {cause}")
        was_ready = self.state is EngineState.READY
        if was_ready:
            self._submissions.engine_died()
        elif self.model_info is None and (error := self._typed_error()) is not None:
            self._give_up(error)  # the same config would meet it again
            return None
        delay = self._backoff.died()
        if delay is None:
            self._give_up(
                self._typed_error()
                or EngineDeadError(f"the engine could not be started, time after time: {cause}")
            )
            return None
        logger.warning(
            "the engine died%s (%s); starting another in %.1f s",
            "" if was_ready else " while it loaded",
            cause,
            delay,
        )
        self.progress = Progress("restarting")
        self._change(EngineState.STARTING if self.model_info is None else EngineState.RESTARTING)
        return delay

    def _give_up(self, error: QuireError) -> None:
        """No engine will come any more."""
        self.failure = error
        self.progress = Progress("failed")
        self._fail_calls(str(error))
        self._change(EngineState.FAILED)
        unfinished = self._on_restart() if self.model_info is not None else ()
        self._submissions.give_up(unfinished, str(error))
        if self._on_failed is not None:
            self._on_failed(error)

    def _clean_up(self) -> None:
        self._fail_calls("the engine has been shut down")
        self._end_watch()
        assert self._context is not None
        self._context.term()
        self._remove_directory()

    # --- requests ---

    def add(self, request: AddRequest) -> None:
        """Queue a request; its deltas come through `on_outputs`. Held while there is no engine.

        Raises:
            RequestError: it cannot be sent to another process.
            EngineDeadError: there is none, and none will come.
        """
        self._refuse_if_over()
        if self._submissions.holding:
            self._checker.encode(request)  # refuse it now, not when an engine is there
        self._submissions.add(request)

    def abort(self, request: AbortRequests) -> None:
        """Stop sequences and free their pages. Those already finished are ignored."""
        self._submissions.abort(request)

    async def call(self, method: str, *, timeout: float = CALL_TIMEOUT) -> object:
        """Ask the engine; answered between two steps.

        Raises:
            RequestError: there is no such call.
            EngineDeadError: it is not ready, or died meanwhile.
            TimeoutError: no answer within `timeout` seconds.
        """
        if method not in CONTROLS:
            raise RequestError(f"no control call '{method}'{nearest(method, CONTROLS)}", "method")
        self._refuse_if_over()
        if self._child is None or self.state is not EngineState.READY:
            raise EngineDeadError(f"the engine is {self.state.value}; ask again when it is ready")
        self._num_calls += 1
        number = self._num_calls
        reply = self._calls[number] = asyncio.get_running_loop().create_future()
        try:
            self._child.send(Control(number, CONTROLS[method]))
            return await asyncio.wait_for(reply, timeout)
        except TimeoutError:
            raise TimeoutError(f"the engine did not answer {method} within {timeout:g} s") from None
        finally:
            del self._calls[number]

    # --- what is known of it ---

    @property
    def pid(self) -> int | None:
        """Of the engine's process, if there is one."""
        return None if self._child is None else self._child.pid

    @property
    def num_resumed(self) -> int:
        """Requests that went on in another engine, each time counted."""
        return self._submissions.num_resumed

    @property
    def num_invalid(self) -> int:
        """Messages that were none of the set, and connections that were not the engine's."""
        total = self._num_invalid
        if self._child is not None:
            total += self._child.num_invalid + self._child.num_strangers
        if self.stats is not None:
            total += self.stats.num_invalid
        return total

    def last_step_age(self) -> float | None:
        """Seconds that the engine has had work without finishing a step; None without work."""
        return self._steps.age()

    # --- messages come ---

    def _take(self, message: FromEngine) -> None:
        if isinstance(message, StepOutputs):
            self.stats = message.stats
            self._steps.stepped(message)
            self._on_outputs(message)
            if self._submissions.watching:
                self._submissions.saw(message.deltas)
        elif isinstance(message, ControlReply):
            self._answer(message)
        elif isinstance(message, LoadProgress):
            self.progress = Progress(message.phase, message.fraction)
        elif isinstance(message, Ready):
            self._become_ready(message.info)
        elif isinstance(message, EngineError):
            self._last_words = message
        elif isinstance(message, Hello) and self.state is EngineState.STARTING:
            self._change(EngineState.LOADING)

    def _become_ready(self, info: ModelInfo) -> None:
        fresh = self.model_info is None
        self.model_info = info
        self.progress = Progress("ready", 1.0)
        self._backoff.ready()
        self._change(EngineState.READY)
        self._submissions.engine_ready(self._submit, None if fresh else self._on_restart())

    def _submit(self, message: Submission) -> None:
        assert self._child is not None
        self._child.send(message)
        if isinstance(message, AddRequest):
            self._steps.sent()
            if self._stall_check is None:
                self._watch(self._stall_timeout)

    def _answer(self, reply: ControlReply) -> None:
        future = self._calls.get(reply.number)
        if future is not None and not future.done():  # else the caller has left
            future.set_result(reply.result)

    def _poison(self, request: AddRequest, message: str) -> None:
        """End a request with an error, as if the engine had said it."""
        logger.error("request '%s' ends with an error: %s", request.request_id, message)
        if self._on_poisoned is not None:
            self._on_poisoned(request.request_id, message)
            return
        deltas = [
            SequenceDelta(request.request_id, index, [], "error", error=message)
            for index in range(request.params.n)
        ]
        self._on_outputs(StepOutputs(deltas, self.stats or EngineStats(0, 0, 0.0, 0, 0, 0, 0)))

    # --- watching ---

    def _watch(self, seconds: float) -> None:
        """Look again then. There is a timer only while there is work: nothing wakes an idle
        front end."""
        loop = asyncio.get_running_loop()
        self._stall_check = loop.call_later(seconds, self._check_steps)

    def _check_steps(self) -> None:
        self._stall_check = None
        age = self._steps.age()
        if age is None or self._child is None:
            return
        if age < self._stall_timeout:
            self._watch(self._stall_timeout - age)
            return
        message = f"no step has finished for {age:.1f} s, with work pending"
        self._last_words = EngineError("EngineDeadError", message)
        self._child.kill()

    def _end_watch(self) -> None:
        self._steps.reset()
        if self._stall_check is not None:
            self._stall_check.cancel()
            self._stall_check = None

    # --- states and errors ---

    def _change(self, state: EngineState) -> None:
        self.state = state
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _typed_error(self) -> QuireError | None:
        """The engine's last words as the error they were, if it was one of ours."""
        words = self._last_words
        kind = None if words is None else getattr(errors, words.kind, None)
        if words is None or not (isinstance(kind, type) and issubclass(kind, QuireError)):
            return None
        return kind(words.message)

    def _why_over(self) -> QuireError:
        if self.failure is None:
            return EngineDeadError("the engine has been shut down")
        return type(self.failure)(str(self.failure))  # a fresh one: it will carry a traceback

    def _refuse_if_over(self) -> None:
        if self.state in (EngineState.FAILED, EngineState.STOPPED):
            raise EngineDeadError(str(self._why_over()))

    def _fail_calls(self, message: str) -> None:
        for future in self._calls.values():
            if not future.done():
                future.set_exception(EngineDeadError(message))


def _private_directory() -> Path:
    """For the sockets; only this user can enter it."""
    directory = Path(tempfile.mkdtemp(prefix="quire-"))
    if len(str(directory)) > _LONGEST_SOCKET_PATH - 10:
        directory.rmdir()
        directory = Path(tempfile.mkdtemp(prefix="quire-", dir="/tmp"))
    return directory


async def _sleep_unless(event: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return
