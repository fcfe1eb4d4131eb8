"""RemoteEngine: the front end's handle on an engine in a process of its own, kept alive.

Starts the process, speaks `core.messages` with it, and starts another when it dies or gets
stuck; every unfinished request then goes on in the new one from the tokens already delivered.
Lives on the front end's event loop and imports no torch. How a process is spawned and spoken to
is `engine.child`'s, what a fresh engine must be told `engine.submissions`', when to restart
`engine.supervisor`'s.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from enum import Enum

import zmq

from quire.core import errors
from quire.core.config import EngineConfig
from quire.core.errors import EngineDeadError, QuireError
from quire.core.logs import LogFormat
from quire.core.messages import (
    AbortRequests,
    AddRequest,
    AskView,
    EngineError,
    EngineStats,
    EngineView,
    FromEngine,
    Hello,
    LoadProgress,
    ModelInfo,
    Ready,
    SequenceDelta,
    StepOutputs,
    Stop,
    ViewReply,
)
from quire.engine.child import Child
from quire.engine.socket_directory import SocketDirectory
from quire.engine.submissions import Submission, Submissions
from quire.engine.supervisor import Backoff, RestartPolicy, StepWatch, describe_exit
from quire.engine.wire import encode_to_engine

logger = logging.getLogger("quire")

STALL_TIMEOUT = 120.0  # seconds
VIEW_TIMEOUT = 10.0
_ERRORS = {
    kind.__name__: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, QuireError)
}


class EngineState(Enum):
    """A dead engine's successor is RESTARTING until it is READY."""

    STARTING = "starting"
    LOADING = "loading"
    READY = "ready"
    RESTARTING = "restarting"
    FAILED = "failed"
    STOPPED = "stopped"


_OVER = (EngineState.FAILED, EngineState.STOPPED)


class RemoteEngine:
    """An engine process and its supervision.

    Args:
        on_outputs: called on the loop with what each step gave, and with the error deltas of
            requests that will not be run again: those unfinished at three deaths in a row, or
            all if no engine can be started.
        on_restart: asked, when a fresh engine is ready, what to submit to it: every request the
            front end has not seen the end of, with `delivered` filled in.
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
        on_failed: Callable[[QuireError], None] = lambda error: None,
        stall_timeout: float = STALL_TIMEOUT,
        policy: RestartPolicy | None = None,
        log_format: LogFormat = "plain",
    ) -> None:
        self._config = config
        self._on_outputs = on_outputs
        self._on_restart = on_restart
        self._on_failed = on_failed
        self._log_format: LogFormat = log_format
        self.state = EngineState.STARTING
        self.progress = LoadProgress("starting")
        self.model_info: ModelInfo | None = None
        self.stats: EngineStats | None = None  # of this engine's last step
        self.num_restarts = 0
        self._failure: QuireError | None = None
        self._submissions = Submissions(self._poison)
        self._steps = StepWatch(stall_timeout, self._end_stuck)
        self._backoff = Backoff(policy or RestartPolicy())
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._supervision: asyncio.Task[None] | None = None
        self._child: Child | None = None
        self._num_children = self._num_invalid = 0
        self._last_words: EngineError | None = None
        self._calls: dict[int, asyncio.Future[EngineView]] = {}
        self._num_calls = 0
        self._changed = asyncio.Event()  # of the state; a new one each time
        self._stopping = asyncio.Event()

    # --- its life ---

    async def start(self) -> None:
        """Spawn the engine; returns at once."""
        assert self._supervision is None, "started already"
        self._supervision = asyncio.create_task(self._supervise(), name="quire-engine")

    async def wait_ready(self) -> ModelInfo:
        """Wait until the engine takes requests.

        Raises:
            QuireError: what keeps it from starting, in the class and words of the engine.
        """
        while self.state is not EngineState.READY:
            if self.state in _OVER:
                raise self._why_over()
            await self._changed.wait()
        assert self.model_info is not None
        return self.model_info

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
        directory = None
        self._context = zmq.Context()
        try:
            directory = SocketDirectory()
            while not self._stopping.is_set():
                cause = await self._run_one(directory)
                if self._stopping.is_set():
                    break
                delay = self._after_death(cause)
                if delay is None:
                    return
                self.num_restarts += 1
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), delay)
            self._change(EngineState.STOPPED)
        except Exception as error:  # a bug; without a supervisor there is no engine
            logger.exception("the engine's supervisor failed")
            self._give_up(EngineDeadError(f"the engine's supervisor failed: {error}"))
        finally:
            self._fail_calls("the engine has been shut down")
            self._context.term()
            if directory is not None:
                directory.remove()

    async def _run_one(self, directory: SocketDirectory) -> str:
        """Run an engine to its end; why it ended, in words."""
        assert self._context is not None
        self._last_words = None
        self._num_children += 1
        path = directory.path / str(self._num_children)
        try:
            self._child = child = Child(
                self._config, path, self._context, self._take, self._log_format
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
            self._submissions.engine_died()
            self._steps.reset()
        return describe_exit(status) if self._last_words is None else self._last_words.message

    def _after_death(self, cause: str) -> float | None:
        """Seconds until the next engine is to start; None if there is to be none."""
        self._fail_calls(f"the engine died: {cause}")
        was_ready = self.state is EngineState.READY
        words = self._last_words
        kind = _ERRORS.get(words.kind) if words is not None else None
        error = kind(cause) if kind is not None else None  # if it was one of ours
        if self.model_info is None and error is not None:
            self._give_up(error)  # the same config would meet it again
            return None
        delay = self._backoff.died()
        if delay is None:
            time_after_time = f"the engine could not be started, time after time: {cause}"
            self._give_up(error or EngineDeadError(time_after_time))
            return None
        logger.warning(
            "the engine died%s (%s); starting another in %.1f s",
            "" if was_ready else " while it loaded",
            cause,
            delay,
        )
        self.progress = LoadProgress("restarting")
        self._change(EngineState.STARTING if self.model_info is None else EngineState.RESTARTING)
        return delay

    def _give_up(self, error: QuireError) -> None:
        """No engine will come any more."""
        self._failure = error
        self.progress = LoadProgress("failed")
        self._fail_calls(str(error))
        self._change(EngineState.FAILED)
        unfinished = self._on_restart() if self.model_info is not None else ()
        self._submissions.give_up(unfinished, str(error))
        self._on_failed(error)

    # --- requests ---

    def add(self, request: AddRequest) -> None:
        """Queue a request; its deltas come through `on_outputs`. Held while there is no engine.

        Raises:
            RequestError: it cannot be sent to another process.
            EngineDeadError: there is none, and none will come.
        """
        self._refuse_if_over()
        if self._submissions.holding:
            encode_to_engine(request)  # refuse it now, not when an engine is there
        self._submissions.add(request)

    def abort(self, request: AbortRequests) -> None:
        """Stop sequences and free their pages. Those already finished are ignored."""
        self._submissions.abort(request)

    async def view(self, *, timeout: float = VIEW_TIMEOUT) -> EngineView:
        """The engine as it is between two steps.

        Raises:
            EngineDeadError: it is not ready, or died meanwhile.
            TimeoutError: no answer within `timeout` seconds.
        """
        self._refuse_if_over()
        if self._child is None or self.state is not EngineState.READY:
            raise EngineDeadError(f"the engine is {self.state.value}; ask again when it is ready")
        self._num_calls += 1
        number = self._num_calls
        reply = self._calls[number] = asyncio.get_running_loop().create_future()
        try:
            self._child.send(AskView(number))
            return await asyncio.wait_for(reply, timeout)
        except TimeoutError:
            raise TimeoutError(f"the engine did not answer within {timeout:g} s") from None
        finally:
            del self._calls[number]

    # --- what is known of it ---

    @property
    def pid(self) -> int | None:
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
        match message:
            case StepOutputs():
                self.stats = message.stats
                self._steps.stepped(message)
                self._on_outputs(message)
                if self._submissions.watching:
                    self._submissions.saw(message.deltas)
            case ViewReply(number, view):
                future = self._calls.get(number)
                if future is not None and not future.done():  # else the caller has left
                    future.set_result(view)
            case LoadProgress():
                self.progress = message
            case Ready(info):
                self._become_ready(info)
            case EngineError():
                self._last_words = message
            case Hello() if self.state is EngineState.STARTING:
                self._change(EngineState.LOADING)

    def _become_ready(self, info: ModelInfo) -> None:
        fresh = self.model_info is None
        self.model_info = info
        self.progress = LoadProgress("ready", 1.0)
        self._backoff.ready()
        self._change(EngineState.READY)
        self._submissions.engine_ready(self._submit, None if fresh else self._on_restart())

    def _submit(self, message: Submission) -> None:
        assert self._child is not None
        self._child.send(message)
        if isinstance(message, AddRequest):
            self._steps.sent()

    def _poison(self, request: AddRequest, message: str) -> None:
        """End a request with an error, as if the engine had said it."""
        logger.error("request '%s' ends with an error: %s", request.request_id, message)
        deltas = [
            SequenceDelta(request.request_id, index, [], "error", error=message)
            for index in range(request.params.n)
        ]
        self._on_outputs(StepOutputs(deltas, self.stats or EngineStats(0, 0, 0.0, 0, 0, 0, 0)))

    def _end_stuck(self, age: float) -> None:
        message = f"no step has finished for {age:.1f} s, with work pending"
        self._last_words = EngineError("EngineDeadError", message)
        if self._child is not None:
            self._child.kill()

    # --- states and errors ---

    def _change(self, state: EngineState) -> None:
        self.state = state
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _why_over(self) -> QuireError:
        if self._failure is None:
            return EngineDeadError("the engine has been shut down")
        return type(self._failure)(str(self._failure))  # a fresh one: it will carry a traceback

    def _refuse_if_over(self) -> None:
        if self.state in _OVER:
            raise EngineDeadError(str(self._why_over()))

    def _fail_calls(self, message: str) -> None:
        for future in self._calls.values():
            if not future.done():
                future.set_exception(EngineDeadError(message))
