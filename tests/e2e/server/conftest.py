"""One server on the boxed model for the tests of this folder, in a process of its own."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from served import Served

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"

Post = Callable[..., httpx.Response]
Stream = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="session")
def served() -> Iterator[Served]:
    """A server that is ready."""
    with Served(
        "--dtype", "float32", "--max-model-len", "512", "--max-num-seqs", "32",
        "--kv-cache-memory-bytes", "64MiB", "--max-body-bytes", "1MiB", "--seed", "7",
        "--served-model-name", "boxed", "--served-model-name", "chatty",
    ) as server:  # fmt: skip
        yield server


@pytest.fixture
def http(served: Served) -> Iterator[httpx.Client]:
    """A plain client."""
    with httpx.Client(base_url=served.address, timeout=60) as client:
        yield client


@pytest.fixture
def chat(http: httpx.Client) -> Post:
    """A question, greedily answered; fields change the body."""

    def post(content: str = "What is the capital of France?", **fields: Any) -> httpx.Response:
        messages = [{"role": "user", "content": content}]
        return http.post(CHAT, json={"messages": messages, "temperature": 0} | fields)

    return post


@pytest.fixture
def complete(http: httpx.Client) -> Post:
    """The same for completions."""

    def post(prompt: Any = "The capital of France is", **fields: Any) -> httpx.Response:
        return http.post(COMPLETIONS, json={"prompt": prompt, "temperature": 0} | fields)

    return post


@pytest.fixture(scope="session")
def chunks() -> Callable[[httpx.Response], list[dict[str, Any]]]:
    """A streamed answer's chunks, after its framing has been checked to the byte."""

    def read(response: httpx.Response) -> list[dict[str, Any]]:
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        text = response.content.decode()
        assert text.endswith("data: [DONE]\n\n")
        events = text.split("\n\n")
        assert events.pop() == ""
        assert all(event.startswith("data: ") and "\n" not in event for event in events)
        assert events.pop() == "data: [DONE]"
        return [json.loads(event.removeprefix("data: ")) for event in events]

    return read
