"""The server's seams: the engine it talks to, and who counts and who admits its requests."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from starlette.types import ASGIApp

from quire.core.config import EngineConfig
from quire.core.errors import QuireError
from quire.core.messages import AbortRequests, AddRequest, EngineStats, StepOutputs
from quire.core.model_info import ModelInfo
from quire.engine.frontend_request import TrackedRequest


class EngineQueue(Protocol):
    """What a dispatcher needs of an engine. Neither call blocks."""

    def add(self, request: AddRequest) -> None:
        """Queue a request; its deltas come through `on_outputs`."""

    def abort(self, request: AbortRequests) -> None:
        """Stop sequences and free their pages."""


class LoadProgress(Protocol):
    """What a starting engine is doing."""

    @property
    def phase(self) -> str:
        """For people: "loading weights"."""

    @property
    def fraction(self) -> float | None:
        """Done so far in [0, 1], where that is known."""


class Engine(EngineQueue, Protocol):
    """An engine in another process (`engine.remote.RemoteEngine`), as the server sees it."""

    @property
    def state(self) -> Enum:
        """STARTING, LOADING, READY, RESTARTING, FAILED or STOPPED."""

    @property
    def progress(self) -> LoadProgress:
        """How far loading is."""

    @property
    def stats(self) -> EngineStats | None:
        """As of the last step."""

    @property
    def model_info(self) -> ModelInfo | None:
        """None until it has loaded."""

    @property
    def num_restarts(self) -> int:
        """Engines started after the first."""

    @property
    def num_resumed(self) -> int:
        """Requests that went on in another engine."""

    @property
    def num_invalid(self) -> int:
        """Messages dropped, as they were none of the set."""

    async def start(self) -> None:
        """Spawn it; returns at once."""

    async def wait_ready(self) -> ModelInfo:
        """Raises the cause if it cannot start."""

    def last_step_age(self) -> float | None:
        """Seconds since it last finished a step; None before the first."""

    async def call(self, method: str, *, timeout: float = 10.0) -> object:
        """A control call of a closed set."""

    async def shutdown(self, timeout: float) -> None:
        """End the process."""


@dataclass(frozen=True, slots=True)
class EngineCallbacks:
    """What an engine tells its server, on the event loop."""

    on_outputs: Callable[[StepOutputs], None]
    on_restart: Callable[[], list[AddRequest | AbortRequests]]  # what to resubmit
    on_failed: Callable[[QuireError], None]  # it is given up; every request has been ended


# Makes an engine that is not started yet.
EngineFactory = Callable[[EngineCallbacks], Engine]


class Metrics(Protocol):
    """Told what happens to requests. `key` is the API key's name; None without keys. Called on
    the hot path: must not block, and must not raise."""

    def watch(self, engine: Engine, config: EngineConfig, num_queued: Callable[[], int]) -> None:
        """Once, before it starts: whose figures to read; `num_queued` wait for admission."""

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """The application, with its HTTP requests counted."""

    def exposition(self) -> tuple[bytes, str]:
        """(body, content type) of /metrics."""

    def on_rejected(self, reason: str) -> None:
        """Admission refused it; `reason` is the name of the limit."""

    def on_request_arrived(self, request: TrackedRequest, key: str | None) -> None:
        """It was admitted and sent to the engine."""

    def on_first_token(self, request: TrackedRequest, key: str | None) -> None:
        """`request.metrics.first_token_time` is set."""

    def on_tokens(self, request: TrackedRequest, count: int, interval: float | None) -> None:
        """A sequence got tokens, `interval` seconds after the request's previous ones."""

    def on_step(self, outputs: StepOutputs) -> None:
        """The engine finished a step; its deltas are about to be dispatched."""

    def on_finished(self, request: TrackedRequest, status: str, key: str | None) -> None:
        """`status` is "stop", "length", "abort" or "error"; the whole request is over."""


class NoMetrics:
    """Counts nothing."""

    def watch(self, engine: Engine, config: EngineConfig, num_queued: Callable[[], int]) -> None:
        """Nothing."""

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """The application as it is."""
        return app

    def exposition(self) -> tuple[bytes, str]:
        """Nothing."""
        return b"", "text/plain; charset=utf-8"

    def on_rejected(self, reason: str) -> None:
        """Nothing."""

    def on_request_arrived(self, request: TrackedRequest, key: str | None) -> None:
        """Nothing."""

    def on_first_token(self, request: TrackedRequest, key: str | None) -> None:
        """Nothing."""

    def on_tokens(self, request: TrackedRequest, count: int, interval: float | None) -> None:
        """Nothing."""

    def on_step(self, outputs: StepOutputs) -> None:
        """Nothing."""

    def on_finished(self, request: TrackedRequest, status: str, key: str | None) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """What admission may decide by, once the prompts are token ids."""

    key: str | None  # the API key's name
    num_prompt_tokens: int  # of all prompts
    num_sequences: int  # n times the prompts
    max_tokens: int  # of all sequences, at most
    priority: int


class Permit(Protocol):
    """Leave to run one HTTP request."""

    def release(self, num_output_tokens: int) -> None:
        """It is over, however it ended, and gave so many tokens. Called once."""


class Admission(Protocol):
    """Who may run, and when."""

    @property
    def num_waiting(self) -> int:
        """Requests that wait for their turn here."""

    async def admit(self, facts: RequestFacts) -> Permit:
        """Wait for a turn if there is a queue.

        Raises:
            TooBusyError: the queue is full, or the key has used up its share.
        """
