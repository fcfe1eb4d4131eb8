"""What must not cost a client its answer: a dying, stuck or attacked engine, clients that leave.

One server in its default precision; its engine is killed from outside, as the kernel would.
"""

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from served import Served

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
# In the engine's process alone: a request of this name kills whoever is given it.
POISON = """
import os, sys
if "quire.engine.process" in sys.orig_argv:
    from quire.core.messages import AddRequest
    from quire.engine import link
    receive = link.Link.receive
    def poisoned(self, **options):
        messages = receive(self, **options)
        if any(isinstance(m, AddRequest) and "poison" in m.request_id for m in messages):
            os.kill(os.getpid(), 9)
        return messages
    link.Link.receive = poisoned
"""


class Victim(Served):
    """A server whose engine can be hurt."""

    def engine(self) -> psutil.Process:
        """Its engine's process, once there is one."""
        deadline = time.monotonic() + 20
        while not (children := psutil.Process(self.process.pid).children()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return children[0]

    def metric(self, name: str) -> float:
        text = httpx.get(f"{self.address}/metrics").text
        return sum(map(float, re.findall(rf"^quire:{name}{{.*}} (\S+)$", text, re.MULTILINE)))

    def until(self, condition: str, seconds: float = 30.0) -> None:
        """Wait until /health says so: "200", or a word of its body."""
        deadline = time.monotonic() + seconds
        while True:
            answer = httpx.get(f"{self.address}/health")
            if condition in (str(answer.status_code), answer.text and answer.json()["status"]):
                return
            assert time.monotonic() < deadline, answer.text
            time.sleep(0.01)


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    place = tmp_path_factory.mktemp("poison")
    (place / "sitecustomize.py").write_text(POISON)
    paths = os.pathsep.join(filter(None, (str(place), os.environ.get("PYTHONPATH"))))
    with Victim(
        "--max-model-len", "512", "--max-num-seqs", "64", "--kv-cache-memory-bytes", "64MiB",
        "--stall-timeout", "3", PYTHONPATH=paths,
    ) as server:  # fmt: skip
        yield server


class Clients:
    """Requests side by side, and how much of the streamed ones has come."""

    def __init__(self, victim: Victim) -> None:
        self.http = httpx.AsyncClient(base_url=victim.address, timeout=120)
        self.num_events = 0

    async def text(self, number: int, length: int = 160) -> str:
        """Chats and completions, greedy, seeded and sampled otherwise, streamed or not."""
        sampling: dict[str, Any] = [
            {"temperature": 0}, {"seed": number}, {"temperature": 0.7, "top_p": 0.9, "seed": 5}
        ][number % 3]  # fmt: skip
        words = f"Tell me a story about {number} cats."
        body = {"max_tokens": length, "ignore_eos": True, "stream": number % 4 != 3, **sampling}
        if number % 2:
            path, body["messages"] = CHAT, [{"role": "user", "content": words}]
        else:
            path, body["prompt"] = COMPLETIONS, words
        if not body["stream"]:
            (choice,) = (await self._post(path, body)).json()["choices"]
            return str(choice["message"]["content"] if path == CHAT else choice["text"])
        return "".join([piece async for piece in self._stream(path, body)])

    async def _post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        answer = await self.http.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer

    async def _stream(self, path: str, body: dict[str, Any]) -> AsyncIterator[str]:
        async with self.http.stream("POST", path, json=body) as answer:
            last = ""
            async for line in answer.aiter_lines():
                if not line or line == "data: [DONE]":
                    last = line or last
                    continue
                self.num_events += 1
                (choice,) = json.loads(line.removeprefix("data: "))["choices"]
                yield choice["delta"].get("content", "") if path == CHAT else choice["text"]
            assert last == "data: [DONE]"


def test_kill_9_under_16_streams_and_a_stall(victim: Victim) -> None:
    """Three times killed, once stopped: every text is what it would have been."""

    async def run(disturb: bool) -> list[str]:
        clients = Clients(victim)
        async with clients.http:
            tasks = [asyncio.create_task(clients.text(number)) for number in range(16)]
            if disturb:
                # Of up to 1920; a server that is behind sends several tokens as one event.
                for number, events in ((9, 150), (9, 350), (9, 550), (signal.SIGSTOP, 750)):
                    while clients.num_events < events:
                        assert not all(task.done() for task in tasks)
                        await asyncio.sleep(0.005)
                    victim.engine().send_signal(number)
                    await asyncio.to_thread(victim.until, "restarting")
                    await asyncio.to_thread(victim.until, "200")
            return await asyncio.gather(*tasks)

    undisturbed = asyncio.run(run(False))
    assert len(set(undisturbed)) > 10
    restarts, resumed = victim.metric("engine_restarts_total"), 16 * 4
    assert asyncio.run(run(True)) == undisturbed
    assert victim.metric("engine_restarts_total") == restarts + 4, victim.log()
    assert victim.metric("requests_resumed_total") == resumed
    assert victim.metric("kv_cache_usage_perc") == 0


def test_a_request_that_kills_every_engine_ends_alone(victim: Victim) -> None:
    async def run(poison: bool) -> list[str]:
        clients = Clients(victim)
        async with clients.http:
            tasks = [asyncio.create_task(clients.text(number, 150)) for number in range(4)]
            if poison:
                while not clients.num_events:
                    await asyncio.sleep(0.005)
                headers = {"X-Request-Id": "poison"}
                body = {"prompt": "Hi", "max_tokens": 5}
                answer = await clients.http.post(COMPLETIONS, json=body, headers=headers)
                assert answer.status_code == 500
                error = answer.json()["error"]
                assert error["message"] == "the engine died 3 times while running this request"
                assert error["type"] == "InternalServerError"
            return await asyncio.gather(*tasks)

    assert asyncio.run(run(True)) == asyncio.run(run(False))


def test_200_clients_that_leave_at_random_times_leave_no_page(victim: Victim) -> None:
    rng = random.Random(1)
    body = {"prompt": "Hello", "max_tokens": 450, "ignore_eos": True, "temperature": 1.0}

    async def client(http: httpx.AsyncClient) -> None:
        stream, n = rng.random() < 0.7, rng.choice((1, 1, 3))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(rng.random() * 2):
                await http.post(COMPLETIONS, json=body | {"stream": stream, "n": n})

    async def run() -> None:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=victim.address, timeout=60, limits=limits) as http:
            await asyncio.gather(*(client(http) for _ in range(200)))

    asyncio.run(run())
    deadline = time.monotonic() + 10
    while httpx.get(f"{victim.address}/load").json()["server_load"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    while victim.metric("num_requests_running") + victim.metric("num_requests_waiting"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert victim.metric("kv_cache_usage_perc") == 0


def test_garbage_on_the_engine_socket_is_dropped_and_counted(victim: Victim) -> None:
    before = victim.metric("engine_invalid_messages_total")
    (path,) = {
        connection.laddr
        for connection in psutil.Process(victim.process.pid).net_connections("unix")
        if "/quire-" in str(connection.laddr)
    }
    assert Path(path).parent.stat().st_mode & 0o777 == 0o700
    for number in range(20):
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(path)
            raw.sendall(os.urandom(100 * number))
    body = {"prompt": "Hi", "max_tokens": 5}
    assert httpx.post(victim.address + COMPLETIONS, json=body).status_code == 200
    deadline = time.monotonic() + 5
    while victim.metric("engine_invalid_messages_total") < before + 20:
        assert time.monotonic() < deadline
