"""A server without sockets, over an engine that says what a test tells it to."""

import asyncio
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

import quire.boxed
from quire.core.config import EngineConfig, engine_config
from quire.core.errors import QuireError
from quire.core.messages import (
    AbortRequests,
    AddRequest,
    EngineStats,
    ModelInfo,
    SequenceDelta,
    StepOutputs,
)
from quire.server.app import create_app
from quire.server.config import ServerConfig
from quire.server.state import ServerState
from quire.text.load import load_tokenizer
from quire.text.tokenizer import Tokenizer


class State(Enum):
    """As the real engine's."""

    LOADING = 1
    READY = 2
    RESTARTING = 3
    FAILED = 4


class ScriptedEngine:
    """Every request gets the tokens of `text`, one a step, unless `manual` is set: then the test
    sends the deltas."""

    num_restarts = num_resumed = num_invalid = 0

    def __init__(self, callbacks: SimpleNamespace, tokenizer: Tokenizer) -> None:
        self.callbacks = callbacks
        self.tokenizer = tokenizer
        self.text = "Hello there"
        self.error: str | None = None  # ends every request, after its first token
        self.manual = False
        self.state = State.LOADING
        self.progress = SimpleNamespace(phase="loading weights", fraction=0.43)
        self.stats = EngineStats(0, 0, 0.0, 0, 0, 0, 0)
        self.age: float | None = None
        self.added: list[AddRequest] = []
        self.aborted: list[AbortRequests] = []
        self.load_error: QuireError | None = None
        self.pause = 0.0
        self.model_info: ModelInfo | None = None

    async def start(self) -> None:
        pass

    async def wait_ready(self) -> ModelInfo:
        if self.load_error is not None:
            raise self.load_error
        self.state = State.READY
        self.model_info = ModelInfo(
            model="boxed",
            architecture="",
            vocab_size=len(self.tokenizer),
            max_model_len=2048,
            dtype="float32",
            device="cpu",
            eos_token_ids=(2,),
            generation_defaults={},
            page_size=16,
            num_pages=(64,),
            max_num_seqs=8,
            max_num_batched_tokens=512,
            enable_prefix_caching=True,
            seed=0,
        )
        return self.model_info

    def add(self, request: AddRequest) -> None:
        self.added.append(request)
        if not self.manual:
            asyncio.get_running_loop().create_task(self._play(request))

    def abort(self, request: AbortRequests) -> None:
        self.aborted.append(request)

    async def _play(self, request: AddRequest) -> None:
        ids = [*self.tokenizer.encode(self.text, add_special_tokens=False), 2]
        for position, token_id in enumerate(ids[: request.max_tokens]):
            await asyncio.sleep(self.pause)
            if self.error is not None and position:
                self.say(request, [], "error", error=self.error)
                return
            last = token_id == 2
            ended = "stop" if last else "length" if position + 1 == request.max_tokens else None
            self.say(request, [token_id], ended)

    def say(self, request: AddRequest, ids: list[int], reason: Any = None, **more: Any) -> None:
        """A step that gave each sequence of a request these tokens."""
        deltas = [
            SequenceDelta(request.request_id, index, list(ids), reason, **more)
            for index in range(request.params.n)
        ]
        self.callbacks.on_outputs(StepOutputs(deltas, self.stats))

    def last_step_age(self) -> float | None:
        return self.age

    async def view(self, *, timeout: float = 10.0) -> object:
        return None

    async def shutdown(self, timeout: float) -> None:
        pass


class Server:
    """A state, its engine, and a client of the application."""

    def __init__(self, tokenizer: Tokenizer, **config: Any) -> None:
        self.engine: ScriptedEngine

        def make(_: EngineConfig, **callbacks: Any) -> ScriptedEngine:
            self.engine = ScriptedEngine(SimpleNamespace(**callbacks), tokenizer)
            return self.engine

        self.state = ServerState(engine_config(), ServerConfig(**config), make_engine=make)
        transport = httpx.ASGITransport(create_app(self.state), raise_app_exceptions=False)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://x")

    async def chat(self, content: str = "Hi", **fields: Any) -> httpx.Response:
        """A question."""
        messages = [{"role": "user", "content": content}]
        return await self.http.post("/v1/chat/completions", json={"messages": messages} | fields)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """The boxed model's."""
    return load_tokenizer(Path(quire.boxed.__path__[0]))


@pytest.fixture
def make_server(tokenizer: Tokenizer) -> Callable[..., Server]:
    """Servers by `ServerConfig`'s fields; not started."""
    return lambda **config: Server(tokenizer, **config)
