"""A running OpenAI-compatible server, as `quire chat --url` and `quire complete --url` use it."""

import json
from collections.abc import Iterator
from typing import Any, NoReturn

import httpx

from quire.cli.answerer import Message, Piece
from quire.core.errors import QuireError

CONNECT_TIMEOUT = 10.0  # seconds
_DATA = "data:"
_DONE = "[DONE]"


class ServerError(QuireError):
    """The server cannot be reached, or refused."""


class ServedAnswerer:
    """A model behind a server's /v1.

    Args:
        url: with or without /v1 at its end.
        model: its name there; None takes the first that the server lists.
        sampling: fields of the request's body.
        transport: for tests.

    Raises:
        ServerError: it cannot be reached, or wants another key.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None,
        model: str | None,
        sampling: dict[str, Any],
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._base = api_base(url)
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        # Answers may take their time; connecting may not.
        timeout = httpx.Timeout(None, connect=CONNECT_TIMEOUT)
        self._http = httpx.Client(headers=headers, timeout=timeout, transport=transport)
        self._sampling = sampling
        self._model = model or _first_model(self._http, self._base)

    @property
    def model(self) -> str:
        """Its name there, and where."""
        return f"{self._model} at {self._base.removesuffix('/v1')}"

    def chat(self, messages: list[Message]) -> Iterator[Piece]:
        """POST /v1/chat/completions."""
        for choice, piece in self._stream("/chat/completions", {"messages": messages}):
            delta = choice.get("delta") or {}
            yield Piece(delta.get("content") or "", *piece)

    def complete(self, prompt: str) -> Iterator[Piece]:
        """POST /v1/completions."""
        for choice, piece in self._stream("/completions", {"prompt": prompt}):
            yield Piece(choice.get("text") or "", *piece)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _stream(
        self, path: str, body: dict[str, Any]
    ) -> Iterator[tuple[dict[str, Any], tuple[int, str | None, str | None]]]:
        """(choice, (new tokens, finish reason, error)) of each chunk."""
        options = {"include_usage": True, "continuous_usage_stats": True}
        whole = {**body, **self._sampling, "model": self._model, "stream": True}
        counted = 0
        ended = False
        for event in self._events(path, {**whole, "stream_options": options}):
            if "error" in event:
                yield {}, (0, "error", _message(event))
                return
            choice: dict[str, Any] = next(iter(event.get("choices") or []), {})
            text = choice.get("text") or (choice.get("delta") or {}).get("content")
            usage = event.get("usage") or {}
            total = usage.get("completion_tokens", counted + bool(text))
            reason = choice.get("finish_reason")
            ended = ended or reason is not None
            yield choice, (total - counted, reason, None)
            counted = total
        if not ended:
            yield {}, (0, "error", "the server ended the stream early")

    def _events(self, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        url = self._base + path
        try:
            with self._http.stream("POST", url, json=body) as response:
                if response.status_code != httpx.codes.OK:
                    response.read()
                    _refused(response)
                for line in response.iter_lines():
                    data = line.removeprefix(_DATA).strip()
                    if not line.startswith(_DATA) or data == _DONE:
                        continue
                    yield json.loads(data)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _unreachable(url, error) from None
        except json.JSONDecodeError:
            raise ServerError(f"{url} answers with something else than JSON events") from None


def check_server(base: str, api_key: str | None) -> str:
    """The first model that a server lists. Raises ServerError if it cannot be asked."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    with httpx.Client(headers=headers, timeout=CONNECT_TIMEOUT) as http:
        return _first_model(http, base)


def _first_model(http: httpx.Client, base: str) -> str:
    url = base + "/models"
    try:
        response = http.get(url, timeout=CONNECT_TIMEOUT)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _unreachable(url, error) from None
    if response.status_code != httpx.codes.OK:
        _refused(response)
    try:
        return str(response.json()["data"][0]["id"])
    except (ValueError, LookupError, TypeError):
        raise ServerError(f"{url} lists no model; is this an OpenAI-compatible API?") from None


def api_base(url: str) -> str:
    """The address of /v1, without a slash at its end."""
    base = url.rstrip("/")
    if "://" not in base:
        base = f"http://{base}"
    return base if base.endswith("/v1") else f"{base}/v1"


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
