"""The work of `quire run-batch`: an OpenAI batch file's lines to answers, in the file's order.

Each line goes through the same handlers as a request over the network: into an application in
this process, or to a running server. A line that is wrong gets an error line, nothing stops.
"""

import asyncio
import json
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TextIO

import httpx

# What a line may ask for.
URLS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/score",
    "/score",
    "/v1/rerank",
    "/rerank",
)
MAX_TRIES = 6  # of a request that a busy server puts off
_PUT_OFF = (429, 503)
_LONGEST_WAIT = 30.0  # seconds between two tries

Result = dict[str, Any]


@dataclass(slots=True)
class Tally:
    """How it went."""

    num_done: int = 0
    num_failed: int = 0


@dataclass(frozen=True, slots=True)
class _Line:
    """One request, or what is wrong with it."""

    custom_id: str | None
    url: str = ""
    body: dict[str, Any] = field(default_factory=dict)
    fault: str | None = None


async def run_lines(
    client: httpx.AsyncClient,
    lines: Iterable[str],
    output: TextIO,
    *,
    concurrency: int,
    on_done: Callable[[Tally], None],
) -> Tally:
    """Answer every line; the answers are written as soon as those before them are.

    Args:
        client: its base address has no /v1.
        concurrency: most requests under way.
    """
    tally, seen = Tally(), set[str]()
    gate = asyncio.Semaphore(concurrency)
    running: deque[asyncio.Task[Result]] = deque()

    async def write_first() -> None:
        result = await running[0]
        running.popleft()
        output.write(json.dumps(result, ensure_ascii=False) + "\n")
        output.flush()

    async def answer(line: _Line) -> Result:
        async with gate:
            result = await _answer(client, line)
        tally.num_done += 1
        tally.num_failed += result["error"] is not None
        on_done(tally)
        return result

    try:
        for number, text in enumerate(lines, 1):
            if not text.strip():
                continue
            running.append(asyncio.create_task(answer(read_line(text, number, seen))))
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


def read_line(text: str, number: int, seen: set[str]) -> _Line:
    """Parse a line; `seen` are the custom ids before it."""
    try:
        request = json.loads(text)
    except json.JSONDecodeError as error:
        return _Line(None, fault=f"line {number} is not JSON: {error.msg}")
    if not isinstance(request, dict):
        return _Line(None, fault=f"line {number} is not a JSON object")
    custom_id = request.get("custom_id")
    if not isinstance(custom_id, str) or not custom_id:
        return _Line(None, fault=f"line {number} has no custom_id, which must be a text")
    fault = _fault(request, custom_id in seen)
    seen.add(custom_id)
    if fault is not None:
        return _Line(custom_id, fault=f"line {number}: {fault}")
    return _Line(custom_id, request["url"], request["body"])


def _fault(request: dict[str, Any], repeated: bool) -> str | None:
    if repeated:
        return "the custom_id was there before"
    if request.get("method", "POST") != "POST":
        return f"method must be POST, got {request['method']!r}"
    if request.get("url") not in URLS:
        return f"url must be one of {', '.join(URLS)}; got {request.get('url')!r}"
    body = request.get("body")
    if not isinstance(body, dict):
        return "body must be a JSON object"
    if body.get("stream"):
        return "stream has no place in a batch; leave it out"
    return None


async def _answer(client: httpx.AsyncClient, line: _Line) -> Result:
    if line.fault is not None:
        return _result(line, None, {"code": "invalid_request", "message": line.fault})
    try:
        response = await _post(client, line)
    except httpx.HTTPError as error:
        reason = str(error) or type(error).__name__
        return _result(line, None, {"code": "connection_error", "message": reason})
    try:
        body = response.json()
    except ValueError:
        body = response.text
    answer = {
        "status_code": response.status_code,
        "request_id": _request_id(response, body),
        "body": body,
    }
    return _result(line, answer, None if response.is_success else _error_of(body))


async def _post(client: httpx.AsyncClient, line: _Line) -> httpx.Response:
    """With patience: a busy or restarting server says when to come back."""
    for tried in range(1, MAX_TRIES + 1):
        response = await client.post(line.url, json=line.body)
        if response.status_code not in _PUT_OFF or tried == MAX_TRIES:
            break
        await asyncio.sleep(_pause(response, tried))
    return response


def _pause(response: httpx.Response, tried: int) -> float:
    asked = response.headers.get("Retry-After", "")
    seconds = float(asked) if asked.isdigit() else 2.0**tried
    return min(_LONGEST_WAIT, seconds)


def _request_id(response: httpx.Response, body: Any) -> str:
    known = body.get("id") if isinstance(body, dict) else None
    return str(response.headers.get("X-Request-Id") or known or uuid.uuid4().hex)


def _error_of(body: Any) -> Any:
    return body["error"] if isinstance(body, dict) and "error" in body else {"message": str(body)}


def _result(line: _Line, response: Any, error: Any) -> Result:
    return {
        "id": f"batch_req_{uuid.uuid4().hex}",
        "custom_id": line.custom_id,
        "response": response,
        "error": error,
    }
