"""A running OpenAI-compatible server, as the commands with --url use it."""

import json
from collections.abc import Iterator
from typing import Any, NoReturn, Self

import httpx

from quire.cli.answerer import Message, Piece
from quire.core.errors import QuireError

CONNECT_TIMEOUT = 10.0  # seconds; answers themselves may take their time
_DATA = "data:"


class ServerError(QuireError):
    """The server cannot be reached, or refused."""


class ServedAnswerer:
    """A model behind a server's /v1.

    Args:
        url: with or without /v1 at its end.
        model: its name there; None takes the first that the server lists.
        sampling: fields of the request's body.

    Raises:
        ServerError: it cannot be reached, or wants another key.
    """

    def __init__(
        self, url: str, api_key: str | None, model: str | None, sampling: dict[str, Any]
    ) -> None:
        self._http = httpx.Client(**connection(url, api_key))
        self._sampling = sampling
        self._name = model or _first_model(self._http)
        self.model = f"{self._name} at {_address(self._http, '')}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._http.close()

    def chat(self, messages: list[Message]) -> Iterator[Piece]:
        return self._stream("/v1/chat/completions", {"messages": messages})

    def complete(self, prompt: str) -> Iterator[Piece]:
        return self._stream("/v1/completions", {"prompt": prompt})

    def _stream(self, path: str, body: dict[str, Any]) -> Iterator[Piece]:
        usage = {"include_usage": True, "continuous_usage_stats": True}
        whole = {**body, **self._sampling, "model": self._name, "stream": True}
        counted, ended = 0, False
        for event in self._events(path, {**whole, "stream_options": usage}):
            if "error" in event:
                yield Piece("", 0, "error", _message(event))
                return
            choice: dict[str, Any] = next(iter(event.get("choices") or []), {})
            text = choice.get("text") or (choice.get("delta") or {}).get("content") or ""
            total = (event.get("usage") or {}).get("completion_tokens", counted + bool(text))
            reason = choice.get("finish_reason")
            ended = ended or reason is not None
            yield Piece(text, total - counted, reason)
            counted = total
        if not ended:
            yield Piece("", 0, "error", "the server ended the stream early")

    def _events(self, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        url = _address(self._http, path)
        try:
            with self._http.stream("POST", path, json=body) as response:
                if response.status_code != httpx.codes.OK:
                    response.read()
                    _refused(response)
                for line in response.iter_lines():
                    data = line.removeprefix(_DATA).strip()
                    if line.startswith(_DATA) and data != "[DONE]":
                        yield json.loads(data)
        except httpx.HTTPError as error:
            raise _unreachable(url, error) from None
        except json.JSONDecodeError:
            raise ServerError(f"{url} answers with something else than JSON events") from None


def connection(url: str, api_key: str | None) -> dict[str, Any]:
    """What an httpx client of that server is made with; its paths begin with /v1.

    Raises:
        ServerError: the server lists no model for that key.
    """
    base = (url if "://" in url else f"http://{url}").rstrip("/").removesuffix("/v1")
    try:
        httpx.URL(base)
    except httpx.InvalidURL as error:
        raise _unreachable(f"{base}/v1/models", error) from None
    return {
        "base_url": base,
        "headers": {"Authorization": f"Bearer {api_key}"} if api_key else {},
        "timeout": httpx.Timeout(None, connect=CONNECT_TIMEOUT),
    }


def check_server(settings: dict[str, Any]) -> None:
    """Raises ServerError if it cannot be asked."""
    with httpx.Client(**settings) as http:
        _first_model(http)


def _first_model(http: httpx.Client) -> str:
    url = _address(http, "/v1/models")
    try:
        response = http.get("/v1/models", timeout=CONNECT_TIMEOUT)
    except httpx.HTTPError as error:
        raise _unreachable(url, error) from None
    if response.status_code != httpx.codes.OK:
        _refused(response)
    try:
        return str(response.json()["data"][0]["id"])
    except (ValueError, LookupError, TypeError):
        raise ServerError(f"{url} lists no model; is this an OpenAI-compatible API?") from None


def _address(http: httpx.Client, path: str) -> str:
    return str(http.base_url).rstrip("/") + path


def _unreachable(url: str, error: Exception) -> ServerError:
    reason = str(error) or type(error).__name__
    return ServerError(f"cannot reach {url}: {reason}; is the server running there (--url)?")


def _refused(response: httpx.Response) -> NoReturn:
    try:
        message = _message(response.json())
    except ValueError:
        message = response.reason_phrase
    remedy = "; give --api-key or QUIRE_API_KEY" if response.status_code == 401 else ""
    raise ServerError(f"the server answered {response.status_code}: {message}{remedy}")


def _message(body: Any) -> str:
    """What an error's body says, in any of the forms servers give it."""
    error = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or error
    return " ".join(str(error).split())
