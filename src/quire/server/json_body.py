"""JSON bytes out. Text may hold what UTF-8 cannot (an unpaired surrogate a client sent): it is
replaced, never an error."""

from typing import Any

import msgspec
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
