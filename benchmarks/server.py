"""Streamed tokens per second of one front end on one core, against an engine that costs nothing.

    python benchmarks/server.py [--streams 128] [--tokens 256] [--api chat|completions]

The server runs in a process of its own with a stub engine in its event loop: every step gives
each running sequence one token of the boxed tokenizer, and the next step comes when the chunks of
the last have been handed to the sockets, so that nothing is merged. The clients are this process:
plain sockets that read and count events. A token's cost is the server process's CPU time (stub,
tracker, detokenizer, JSON, SSE, HTTP and system calls together) divided by the tokens. The stages
above the socket are timed by themselves as well: the part that the bar of 15 µs is for.
"""

import argparse
import asyncio
import json
import selectors
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import quire.boxed
from quire.core.config import EngineConfig, engine_config
from quire.core.messages import (
    AbortRequests,
    AddRequest,
    EngineStats,
    ModelInfo,
    SequenceDelta,
    StepOutputs,
)
from quire.server.config import ServerConfig
from quire.text.load import load_tokenizer

TEXT = "What is the capital of South Korea? 대한민국의 수도는 서울입니다. 東京 🙂\n" * 40


class _State(Enum):
    READY = "ready"


class StubEngine:
    """An engine whose every step gives every sequence its next token at once."""

    state = _State.READY
    progress = SimpleNamespace(phase="ready", fraction=1.0)
    num_restarts = num_resumed = num_invalid = 0
    model_info: ModelInfo | None = None

    def __init__(
        self, _: EngineConfig, *, on_outputs: Callable[[StepOutputs], None], **others: object
    ) -> None:
        self._on_outputs = on_outputs
        self.stats = EngineStats(0, 0, 0.0, 0, 0, 0, 0)
        tokenizer = load_tokenizer(Path(quire.boxed.__path__[0]))
        self._ids = tokenizer.encode(TEXT)
        self._vocab_size = len(tokenizer)
        self._running: dict[str, list[int]] = {}  # request id -> [tokens so far, max_tokens]
        self._work = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._steps())

    async def wait_ready(self) -> ModelInfo:
        return ModelInfo(
            model="boxed",
            architecture="",
            vocab_size=self._vocab_size,
            max_model_len=1 << 20,
            dtype="bfloat16",
            device="cpu",
            eos_token_ids=(0,),
            generation_defaults={},
            page_size=16,
            num_pages=(1,),
            max_num_seqs=4096,
            max_num_batched_tokens=2048,
            enable_prefix_caching=True,
            seed=0,
        )

    async def _steps(self) -> None:
        ids, count = self._ids, len(self._ids)
        while True:
            await self._work.wait()
            deltas = []
            for request_id, progress in list(self._running.items()):
                token = ids[progress[0] % count]
                progress[0] += 1
                ended = progress[0] >= progress[1]
                deltas.append(SequenceDelta(request_id, 0, [token], "length" if ended else None))
                if ended:
                    del self._running[request_id]
            if not self._running:
                self._work.clear()
            self._on_outputs(StepOutputs(deltas, self.stats))
            # One turn of the loop wakes the responses, in the next they write.
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    def add(self, request: AddRequest) -> None:
        self._running[request.request_id] = [0, request.max_tokens]
        self._work.set()

    def abort(self, request: AbortRequests) -> None:
        self._running.pop(request.request_id, None)

    def last_step_age(self) -> float | None:
        return None

    async def call(self, method: str, *, timeout: float = 10.0) -> object:
        return None

    async def shutdown(self, timeout: float) -> None:
        assert self._task is not None
        self._task.cancel()


# --- the server's process ---


def serve() -> None:
    """Run a server with the stub until standard input closes; say what it cost."""
    import uvloop

    from quire.server.run import serve
    from quire.server.state import ServerState

    async def main() -> None:
        config = ServerConfig(host="127.0.0.1", port=0)
        state = ServerState(engine_config(), config, make_engine=StubEngine)
        running = asyncio.create_task(serve(state, lambda address: print(address, flush=True)))
        loop = asyncio.get_running_loop()
        while True:
            line = await loop.run_in_executor(None, sys.stdin.readline)
            if not line:
                break
            print(time.process_time(), flush=True)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


# --- the clients ---


def request_bytes(api: str, tokens: int) -> bytes:
    body: dict[str, object] = {"stream": True, "max_tokens": tokens, "ignore_eos": True}
    if api == "chat":
        path = "/v1/chat/completions"
        body["messages"] = [{"role": "user", "content": "Hello"}]
    else:
        path, body["prompt"] = "/v1/completions", "Hello"
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Connection: close\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


def stream_all(port: int, streams: int, request: bytes) -> tuple[int, float]:
    """Events received, and the seconds from the first request to the last byte."""
    selector = selectors.DefaultSelector()
    start = time.perf_counter()
    for _ in range(streams):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.sendall(request)
        selector.register(sock, selectors.EVENT_READ, deque(maxlen=1))
    events, left = 0, streams
    while left:
        for key, _ in selector.select():
            sock = key.fileobj
            assert isinstance(sock, socket.socket)
            data = sock.recv(1 << 18)
            if not data:
                selector.unregister(sock)
                sock.close()
                left -= 1
                continue
            # An event's beginning may be cut in two; the tail of the last read completes it.
            tail = key.data[0] if key.data else b""
            joined = tail + data
            events += joined.count(b"data: {")
            key.data.append(joined[-6:] if not joined.endswith(b"data: {") else b"")
    return events, time.perf_counter() - start


def stage_cost(api: str, streams: int, tokens: int) -> float:
    """µs of CPU a token from a step's deltas to the bytes of its chunks; no HTTP."""

    async def measure() -> float:
        from starlette.requests import Request

        from quire.server.app import create_app
        from quire.server.state import ServerState

        engines: list[StubEngine] = []

        def make(config: EngineConfig, **callbacks: Any) -> StubEngine:
            engines.append(StubEngine(config, **callbacks))
            return engines[-1]

        state = ServerState(engine_config(), ServerConfig(), make_engine=make)
        await state.start()
        engine = engines[0]
        assert engine._task is not None
        engine._task.cancel()
        app = create_app(state)
        body = request_bytes(api, tokens).split(b"\r\n\r\n", 1)[1]
        path = "/v1/chat/completions" if api == "chat" else "/v1/completions"
        sent = 0

        async def one() -> None:
            given = False
            never = asyncio.Event()

            async def receive() -> dict[str, object]:
                nonlocal given
                if given:
                    await never.wait()
                given = True
                return {"type": "http.request", "body": body, "more_body": False}

            async def send(message: dict[str, object]) -> None:
                nonlocal sent
                sent += 1

            headers = [(b"content-type", b"application/json")]
            scope = {
                "type": "http", "http_version": "1.1", "method": "POST", "path": path,
                "raw_path": path.encode(), "query_string": b"", "headers": headers,
                "scheme": "http", "server": ("x", 1), "client": ("y", 2), "root_path": "",
            }  # fmt: skip
            assert Request(scope).method == "POST"
            await app(scope, receive, send)

        tasks = [asyncio.create_task(one()) for _ in range(streams)]
        while len(engine._running) < streams:
            await asyncio.sleep(0)
        ids, done, spent = engine._ids, 0, 0.0
        for step in range(tokens):
            last = "length" if step == tokens - 1 else None
            token = ids[step % len(ids)]
            deltas = [SequenceDelta(r, 0, [token], last) for r in engine._running]
            outputs = StepOutputs(deltas, engine.stats)
            start = time.process_time()
            state._on_outputs(outputs)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            spent += time.process_time() - start
            done += streams
        await asyncio.gather(*tasks)
        await engine.shutdown(0)
        return spent / done * 1e6

    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(measure())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--api", choices=("chat", "completions"))
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve()
        return
    for api in (args.api,) if args.api else ("chat", "completions"):
        cost = min(stage_cost(api, args.streams, args.tokens) for _ in range(3))
        print(f"{api}: deltas to chunks, {cost:.1f} µs of CPU a token", flush=True)
        server = subprocess.Popen(
            [sys.executable, __file__, "--serve"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert server.stdin is not None
        assert server.stdout is not None
        port = int(server.stdout.readline().rsplit(":", 1)[1])

        def cpu(process: subprocess.Popen[str] = server) -> float:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            return float(process.stdout.readline())

        try:
            time.sleep(1.0)  # it opens its tokenizer
            request = request_bytes(api, args.tokens)
            stream_all(port, 4, request)
            for _ in range(3):
                before = cpu()
                events, seconds = stream_all(port, args.streams, request)
                spent = cpu() - before
                total = args.streams * args.tokens
                print(
                    f"{api}: {args.streams} streams of {args.tokens} tokens:"
                    f" {total / seconds:,.0f} tokens/s; {spent / total * 1e6:.1f} µs of CPU a"
                    f" token, so {total / spent:,.0f} tokens/s of a whole core;"
                    f" {events / total:.2f} events a token",
                    flush=True,
                )
        finally:
            server.stdin.close()
            server.wait(10)


if __name__ == "__main__":
    main()
