"""What a client is told when a request cannot be served: bodies, statuses, and who raises what.

Bodies are `{"error": {"message", "type", "param", "code"}}` with `code` the status, except for
unknown paths and methods (FastAPI's `{"detail"}`) and keys (`{"error": "Unauthorized"}`). Others
under /v1/messages are told as Anthropic does.
"""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import Scope

from quire.core.errors import (
    ConfigError,
    EngineDeadError,
    NotYetSupportedError,
    QuireError,
    RequestError,
)
from quire.server.replies import encode_json

logger = logging.getLogger("quire")

SERVER_ERROR = "The server had an error while processing your request."
MAX_LISTED_ERRORS = 10
MAX_SHOWN_INPUT = 100  # characters of a client's input that an error repeats

_ANTHROPIC_PATH = "/v1/messages"
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class TooBusyError(QuireError):
    """Admission refuses a request for now. `retry_after` is an estimate in seconds, `limit` the
    name of what it ran into."""

    def __init__(self, message: str, retry_after: float, limit: str = "busy") -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.limit = limit


class ClientGoneError(QuireError):
    """The client closed the connection; there is nobody to answer."""


class APIError(QuireError):
    """An answer that is an error.

    Args:
        kind: the body's `type`; the status's phrase if left out.
        param: the field at fault.
        retry_after: seconds, for the header of that name.
    """

    def __init__(
        self,
        status: int,
        message: str,
        kind: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind or HTTPStatus(status).phrase
        self.param = param
        self.retry_after = retry_after

    def body(self) -> dict[str, Any]:
        error = {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.status,
        }
        return {"error": error}

    def anthropic_body(self) -> dict[str, Any]:
        kind = _ANTHROPIC_TYPES.get(self.status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": self.message}}

    def response(
        self,
        scope: Scope,
        body: dict[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """The whole answer: `body`, or what the API that was asked calls an error."""
        if body is None:
            anthropic = route_path(scope).startswith(_ANTHROPIC_PATH)
            body = self.anthropic_body() if anthropic else self.body()
        headers = dict(headers or {})
        if self.retry_after is not None:
            headers["Retry-After"] = str(max(1, round(self.retry_after)))
        return Response(encode_json(body), self.status, headers, "application/json")


def route_path(scope: Scope) -> str:
    """The path that was asked for, without the one that a proxy shows the server under."""
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    return path or "/"


def refused(name: str, remedy: str = "leave it out") -> APIError:
    """A parameter that is known and not supported."""
    return APIError(400, f"{name} is not supported; {remedy}", "BadRequestError", name)


def unavailable(message: str, retry_after: float) -> APIError:
    return APIError(503, message, "ServiceUnavailableError", retry_after=retry_after)


def deadline_passed(seconds: float) -> APIError:
    return APIError(
        504,
        f"The request's deadline passed after {seconds:g} s;"
        " give it more (timeout, --request-timeout).",
        "TimeoutError",
        "timeout",
    )


def as_api_error(error: BaseException) -> APIError:
    """The answer for anything raised while a request was served; unknown errors are logged."""
    if isinstance(error, APIError):
        return error
    if isinstance(error, RequestValidationError):
        return _invalid_body(error)
    if isinstance(error, RequestError):
        return APIError(400, _semantic(error), "BadRequestError", error.parameter)
    if isinstance(error, NotYetSupportedError | ConfigError):
        return APIError(400, str(error), "BadRequestError")
    if isinstance(error, TooBusyError):
        return APIError(429, str(error), retry_after=error.retry_after)
    if isinstance(error, EngineDeadError):
        logger.error("a request failed: %s", error)
    else:
        logger.error("a request failed", exc_info=error)
    return APIError(500, SERVER_ERROR, "InternalServerError")


def install(app: FastAPI) -> None:
    """Every error of a route becomes one of the answers above."""
    app.add_exception_handler(RequestValidationError, _on_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(ClientGoneError, _on_client_gone)
    app.add_exception_handler(QuireError, _on_error)
    app.add_exception_handler(Exception, _on_error)


async def _on_error(request: Request, error: Exception) -> Response:
    return as_api_error(error).response(request.scope)


async def _on_client_gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it; the number is for the access log


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    body = {"detail": error.detail} if error.status_code in (404, 405) else None
    answer = APIError(error.status_code, str(error.detail))
    return answer.response(request.scope, body, error.headers)


def _invalid_body(error: RequestValidationError) -> APIError:
    errors = error.errors()
    place = errors[0].get("loc", ())
    # Without the names that pydantic gives to the members of a union.
    place = place[:2] if len(place) > 1 and isinstance(place[1], str) else place
    param = ".".join(map(str, place)) or None
    lines = [_describe(each) for each in errors[:MAX_LISTED_ERRORS]]
    if len(errors) > MAX_LISTED_ERRORS:
        lines.append(f"and {len(errors) - MAX_LISTED_ERRORS} more")
    plural = "" if len(errors) == 1 else "s"
    message = f"{len(errors)} validation error{plural}:\n  " + "\n  ".join(lines)
    return APIError(400, message, param=param)


def _describe(error: Mapping[str, Any]) -> str:
    place = ".".join(str(part) for part in error.get("loc", ()))
    reason = error.get("msg", "invalid")
    if error.get("type") == "json_invalid":
        return f"{place}: {reason}: {error.get('ctx', {}).get('error', '')}"
    if error.get("type") == "missing":
        return f"{place}: {reason}"
    return f"{place}: {reason}, got {clipped(error.get('input'))}"


def clipped(value: object) -> str:
    """A client's input, short enough to repeat."""
    if isinstance(value, str | bytes | list | dict | tuple) and len(value) > MAX_SHOWN_INPUT:
        if isinstance(value, str | bytes):
            return f"{value[:MAX_SHOWN_INPUT]!r}…"
        return f"a {type(value).__name__} of {len(value)}"
    text = repr(value)
    return text if len(text) <= MAX_SHOWN_INPUT else text[:MAX_SHOWN_INPUT] + "…"


def _semantic(error: RequestError) -> str:
    """The message, which ends in the parameter and the value where they are known."""
    facts = []
    if error.parameter is not None:
        facts.append(f"parameter={error.parameter}")
        if error.value is not None:
            facts.append(f"value={clipped(error.value)}")
    return f"{error} ({', '.join(facts)})" if facts else str(error)
