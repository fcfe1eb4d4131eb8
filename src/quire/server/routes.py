"""What routes share: how they are declared, and how they find the state."""

from collections.abc import Callable, Sequence
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.types import DecoratedCallable
from pydantic import BaseModel

from quire.server.errors import APIError
from quire.server.state import ServerState


class ErrorFacts(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None = None
    code: int


class ErrorBody(BaseModel):
    """Any answer that is an error."""

    error: ErrorFacts


class Unauthorized(BaseModel):
    """No key, or a wrong one."""

    error: str = "Unauthorized"


_DESCRIPTIONS = {
    400: "The request cannot be served as it is",
    404: "No such model",
    413: "The request body is too large",
    429: "Too busy; Retry-After says when to try again",
    500: "The server failed",
    503: "Not ready, or shutting down",
    504: "The request's deadline passed",
}

GENERATION_ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"model": Unauthorized, "description": "No valid API key"},
    **{status: {"model": ErrorBody, "description": d} for status, d in _DESCRIPTIONS.items()},
}


def state_of(http: Request) -> ServerState:
    """The server a request came to."""
    state: ServerState = http.app.state.quire
    return state


async def _json_only(http: Request) -> None:
    kind = http.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json":
        raise APIError(400, "Unsupported Media Type: Only 'application/json' is allowed")


JSON_ONLY: Sequence[Any] = [Depends(_json_only)]


def post(
    router: APIRouter, path: str, tag: str
) -> Callable[[DecoratedCallable], DecoratedCallable]:
    """An endpoint that takes a JSON body."""
    return router.post(
        path,
        dependencies=JSON_ONLY,
        response_model=None,
        responses=GENERATION_ERRORS,
        tags=[tag],
    )
