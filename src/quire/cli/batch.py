"""The work of `quire run-batch`: an OpenAI batch file's lines to answers, in the file's order.

Each line goes through the same handlers as a request over the network: into an application in
this process, or to a running server. A line that is wrong gets an error line, nothing stops.
"""

import asyncio
import json
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TextIO

import httpx

# What a line may ask for.
URLS = (
    *("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"),
    *("/v1/score", "/score", "/v1/rerank", "/rerank"),
)
MAX_TRIES = 6  # of a request that a busy server puts off
_PUT_OFF = (429, 503)
_LONGEST_WAIT = 30.0  # seconds between two tries


@dataclass(slots=True)
class Tally:
    """How it went."""

    num_done: int = 0
    num_failed: int = 0


class _LineError(ValueError):
    """What is wrong with a line."""


async def run_lines(
    client: httpx.AsyncClient,
    lines: Iterable[str],
    output: TextIO,
    *,
    concurrency: int,
    on_done: Callable[[], object],
) -> Tally:
    """Answer every line; the answers are written as soon as those before them are.

    Args:
        client: its base address has no /v1.
        concurrency: most requests under way.
    """
    tally, seen = Tally(), set[str]()
    gate = asyncio.Semaphore(concurrency)
    running: deque[asyncio.Task[dict[str, Any]]] = deque()

    async def write_first() -> None:
        result = await running[0]
        running.popleft()
        output.write(json.dumps(result, ensure_ascii=False) + "\n")
        output.flush()

    async def answer(text: str, number: int) -> dict[str, Any]:
        async with gate:
            result = await _answer(client, text, number, seen)
        tally.num_done += 1
        tally.num_failed += result["error"] is not None
        on_done()
        return result

    try:
        for number, text in enumerate(lines, 1):
            if not text.strip():
                continue
            running.append(asyncio.create_task(answer(text, number)))
            # Answers that wait for an earlier one are held in memory: not too many of them.
            while len(running) >= 2 * concurrency or (running and running[0].done()):
                await write_first()
            await asyncio.sleep(0)  # the tasks get on while a long file is read
        while running:
            await write_first()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    return tally


async def _answer(
    client: httpx.AsyncClient, text: str, number: int, seen: set[str]
) -> dict[str, Any]:
    """A line of the output. `seen` are the custom ids so far."""
    result: dict[str, Any] = {
        "id": f"batch_req_{uuid.uuid4().hex}",
        "custom_id": None,
        "response": None,
        "error": None,
    }
    try:
        request = _read(text)
        result["custom_id"] = request["custom_id"]
        _check(request, seen)
        response = await _post(client, request["url"], request["body"])
    except _LineError as error:
        message = f"line {number}{error}"
        return result | {"error": {"code": "invalid_request", "message": message}}
    except httpx.HTTPError as error:
        reason = str(error) or type(error).__name__
        return result | {"error": {"code": "connection_error", "message": reason}}
    try:
        body = response.json()
    except ValueError:
        body = response.text
    known = body if isinstance(body, dict) else {}
    request_id = response.headers.get("X-Request-Id") or known.get("id") or uuid.uuid4().hex
    result["response"] = {
        "status_code": response.status_code,
        "request_id": str(request_id),
        "body": body,
    }
    if not response.is_success:
        result["error"] = known.get("error", {"message": str(body)})
    return result


def _read(text: str) -> dict[str, Any]:
    try:
        request = json.loads(text)
    except json.JSONDecodeError as error:
        raise _LineError(f" is not JSON: {error.msg}") from None
    if not isinstance(request, dict):
        raise _LineError(" is not a JSON object")
    custom_id = request.get("custom_id")
    if not isinstance(custom_id, str) or not custom_id:
        raise _LineError(" has no custom_id, which must be a text")
    return request


def _check(request: dict[str, Any], seen: set[str]) -> None:
    if request["custom_id"] in seen:
        raise _LineError(": the custom_id was there before")
    seen.add(request["custom_id"])
    if request.get("method", "POST") != "POST":
        raise _LineError(f": method must be POST, got {request['method']!r}")
    if request.get("url") not in URLS:
        raise _LineError(f": url must be one of {', '.join(URLS)}; got {request.get('url')!r}")
    body = request.get("body")
    if not isinstance(body, dict):
        raise _LineError(": body must be a JSON object")
    if body.get("stream"):
        raise _LineError(": stream has no place in a batch; leave it out")


async def _post(client: httpx.AsyncClient, url: str, body: dict[str, Any]) -> httpx.Response:
    """With patience: a busy or restarting server says when to come back."""
    tried = 1
    while True:
        response = await client.post(url, json=body)
        if response.status_code not in _PUT_OFF or tried == MAX_TRIES:
            return response
        asked = response.headers.get("Retry-After", "")
        await asyncio.sleep(min(_LONGEST_WAIT, float(asked) if asked.isdigit() else 2.0**tried))
        tried += 1
