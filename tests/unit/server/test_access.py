"""Keys guard everything but what load balancers ask; CORS; the body's size; no torch."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from quire.core.errors import ConfigError
from quire.server.config import ApiKey, ServerConfig

KEYS = (ApiKey("alice", "sk-1"), ApiKey("bob", "sk-2"))
CHAT = {"messages": [{"role": "user", "content": "Hi"}]}


def ask(make_server: Callable[..., Any], *requests: tuple[Any, ...], **config: Any):
    """The answers of a started server to (method, path, options) each."""

    async def main() -> list[httpx.Response]:
        server = make_server(**config)
        await server.state.start()
        return [await server.http.request(m, p, **o) for m, p, o in requests]

    return asyncio.run(asyncio.wait_for(main(), 20))


def bearer(secret: str) -> dict[str, dict[str, str]]:
    return {"headers": {"Authorization": f"Bearer {secret}"}}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/completions"),
        ("POST", "/v1/embeddings"),
        ("POST", "/v1/responses"),
        ("POST", "/v1/messages"),
        ("POST", "/score"),
        ("POST", "/rerank"),
        ("POST", "/tokenize"),
        ("POST", "/detokenize"),
        ("GET", "/version"),
        ("GET", "/load"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("GET", "/no/such/path"),
        ("GET", "/health/"),
    ],
)
def test_guarded(make_server, method: str, path: str) -> None:
    answers = ask(
        make_server,
        (method, path, {}),
        (method, path, bearer("sk-3")),
        (method, path, bearer("")),
        (method, path, {"headers": {"Authorization": "Basic sk-1"}}),
        api_keys=KEYS,
    )
    for answer in answers:
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.content == b'{"error":"Unauthorized"}'


@pytest.mark.parametrize("path", ["/health", "/ready", "/ping", "/", "/metrics"])
def test_open(make_server, path: str) -> None:
    (answer,) = ask(make_server, ("GET", path, {}), api_keys=KEYS)
    assert answer.status_code != 401


def test_metrics_may_be_guarded(make_server) -> None:
    answers = ask(
        make_server,
        ("GET", "/metrics", {}),
        ("GET", "/metrics", bearer("sk-1")),
        api_keys=KEYS,
        protect_metrics=True,
    )
    assert answers[0].status_code == 401
    assert answers[1].status_code != 401


def test_any_key_opens(make_server) -> None:
    answers = ask(
        make_server,
        ("GET", "/v1/models", bearer("sk-1")),
        ("GET", "/v1/models", bearer("sk-2")),
        ("GET", "/v1/models", {"headers": {"x-api-key": "sk-2"}}),
        api_keys=KEYS,
    )
    assert [answer.status_code for answer in answers] == [200] * 3


def test_keys_are_not_shown() -> None:
    assert "sk-1" not in repr(ServerConfig(api_keys=KEYS))
    with pytest.raises(ConfigError, match="names must differ"):
        ServerConfig(api_keys=(ApiKey("a", "x"), ApiKey("a", "y")))


def test_cors(make_server) -> None:
    origin = {"Origin": "http://page", "Access-Control-Request-Method": "POST"}
    preflight, refused, stranger = ask(
        make_server,
        ("OPTIONS", "/v1/chat/completions", {"headers": origin}),
        ("POST", "/v1/chat/completions", {"headers": {"Origin": "http://page"}}),
        ("OPTIONS", "/v1/models", {"headers": origin | {"Origin": "http://evil"}}),
        api_keys=KEYS,
        allowed_origins=("http://page",),
    )
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "http://page"
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == "http://page"
    assert stranger.status_code == 400


def test_root_path(make_server) -> None:
    answers = ask(
        make_server,
        ("GET", "/api/health", {}),
        ("GET", "/api/v1/models", {}),
        ("GET", "/api/v1/models", bearer("sk-1")),
        root_path="/api",
        api_keys=KEYS,
    )
    assert [answer.status_code for answer in answers] == [200, 401, 200]


def test_bodies_are_counted_as_they_come(make_server) -> None:
    async def pieces():
        for _ in range(20):
            yield b"x" * 100

    (answer,) = ask(
        make_server,
        (
            "POST",
            "/v1/completions",
            {"content": pieces(), "headers": {"content-type": "application/json"}},
        ),
        max_body_bytes=1000,
    )
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == 413


def test_no_docs(make_server) -> None:
    answers = ask(
        make_server,
        *[("GET", path, {}) for path in ("/docs", "/redoc", "/openapi.json")],
        disable_docs=True,
    )
    assert [answer.status_code for answer in answers] == [404] * 3


def test_the_front_end_needs_no_torch() -> None:
    code = """
import sys
import quire.server.run, quire.cli.serve
print(*[m for m in ("torch", "transformers", "triton") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "body: Field required"),
        (b"null", "body: Input should be a valid dictionary"),
        (b'{"prompt"', "body.9: JSON decode error: Expecting ':' delimiter"),
        (b'{"prompt": "\xff"}', "There was an error parsing the body"),
        (b'{"prompt": "a", "seed": ' + b"9" * 5000 + b"}", "There was an error parsing the body"),
        (b"[" * 100_000, "There was an error parsing the body"),
        (b'{"prompt": "a", "n": [NaN]}', "body.n: Input should be a valid integer, got [nan]"),
    ],
)
def test_a_body_that_is_no_request(
    make_server: Callable[..., Any], body: bytes, message: str
) -> None:
    options = {"content": body, "headers": {"content-type": "application/json; charset=utf-8"}}
    [answer] = ask(make_server, ("POST", "/v1/completions", options))
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


def test_what_is_not_quite_json_is_understood(make_server: Callable[..., Any]) -> None:
    headers = {"content-type": "application/json"}
    bodies = [b'\xef\xbb\xbf{"prompt": "ab"}', b'{"prompt": "ab", "user": "\\ud800", "x": NaN}']
    for body in bodies:
        options = {"content": body, "headers": headers}
        [answer] = ask(make_server, ("POST", "/tokenize", options))
        assert answer.status_code == 200, answer.text
        assert answer.json()["count"] >= 1
