"""What replies are made of: names, headers, and JSON bytes. Text may hold what UTF-8 cannot (an
unpaired surrogate a client sent): it is replaced, never an error."""

import secrets
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

_encoder = msgspec.json.Encoder()


def encode_json(value: Any) -> bytes:
    """Plain data as JSON; numbers that JSON has not become null."""
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        return _encoder.encode(_clean(value))


def json_response(value: Any, headers: dict[str, str] | None = None) -> Response:
    return Response(encode_json(value), 200, headers, "application/json")


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value


MAX_REQUEST_ID = 256


def random_id() -> str:
    """16 hexadecimal digits."""
    return secrets.token_hex(8)


def answer_id(prefix: str, http: Request, body_id: str | None) -> str:
    """`prefix-` and the client's own id (header, then body), or a random one."""
    header = http.headers.get("x-request-id")
    return f"{prefix}-{(header or '')[:MAX_REQUEST_ID] or body_id or random_id()}"


def request_id_headers(http: Request) -> dict[str, str]:
    """X-Request-Id for the answer, if the server is to tell it: the client's, or a fresh one."""
    if not http.app.state.quire.config.enable_request_id_headers:
        return {}
    return {"X-Request-Id": http.headers.get("x-request-id") or random_id()}
