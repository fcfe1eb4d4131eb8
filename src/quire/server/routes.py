"""What routes share: how they are declared, and how they find the state."""

import json
from collections.abc import Callable, Coroutine
from typing import Any, get_type_hints

import msgspec
from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.types import DecoratedCallable
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect

from quire.server.errors import APIError, ClientGoneError
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
    state: ServerState = http.app.state.quire
    return state


class _JsonRoute(APIRoute):
    """Hands a request's checked body and the request to the endpoint. FastAPI's own way there
    looks for parameters and dependencies that these endpoints have not: a sixth of a request.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        endpoint = self.endpoint
        checked: TypeAdapter[Any] = TypeAdapter(get_type_hints(endpoint)["body"])

        async def handle(http: Request) -> Response:
            given = await _json_of(http)
            try:
                body = checked.validate_python(given, from_attributes=True)
            except ValidationError as error:
                raise RequestValidationError(
                    [{**e, "loc": ("body", *e["loc"])} for e in error.errors(include_url=False)]
                ) from None
            response: Response = await endpoint(body, http)
            return response

        return handle


async def _json_of(http: Request) -> Any:
    kind = http.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json":
        raise APIError(400, "Unsupported Media Type: Only 'application/json' is allowed")
    try:
        data = await http.body()
    except ClientDisconnect:
        raise ClientGoneError("the client left before its request was whole") from None
    if not data:
        raise RequestValidationError(
            [{"type": "missing", "loc": ("body",), "msg": "Field required"}]
        )
    try:
        return _decoded(data)
    except json.JSONDecodeError as error:
        raise RequestValidationError(
            [
                {
                    "type": "json_invalid",
                    "loc": ("body", error.pos),
                    "msg": "JSON decode error",
                    "ctx": {"error": error.msg},
                }
            ]
        ) from None
    except (ValueError, RecursionError):
        raise HTTPException(400, "There was an error parsing the body") from None


def _decoded(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except ValueError:
        return json.loads(data)  # takes more (lone surrogates, NaN), and says where it is none


def post(
    router: APIRouter, path: str, tag: str
) -> Callable[[DecoratedCallable], DecoratedCallable]:
    """An endpoint `(body, http)` that takes a JSON body."""

    def declare(endpoint: DecoratedCallable) -> DecoratedCallable:
        router.add_api_route(
            path,
            endpoint,
            methods=["POST"],
            response_model=None,
            responses=GENERATION_ERRORS,
            tags=[tag],
            route_class_override=_JsonRoute,
        )
        return endpoint

    return declare
