"""The ASGI application: routes, middleware, and the OpenAPI document."""

from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Receive, Scope, Send

import quire
from quire.server import (
    chat,
    completions,
    errors,
    health,
    messages,
    models,
    page,
    pooling,
    responses,
    tokenize,
)
from quire.server.access import ApiKeyMiddleware, BodyLimitMiddleware
from quire.server.sse import DIRECT_SEND
from quire.server.state import ServerState

_ROUTERS: tuple[APIRouter, ...] = (
    chat.router,
    completions.router,
    models.router,
    tokenize.router,
    pooling.router,
    responses.router,
    messages.router,
    health.router,
    page.router,
)


class QuireApp(FastAPI):
    """FastAPI with a short way out for streams, and an OpenAPI document without the 422 that this
    server never answers."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Streamed chunks pass the middleware by: it has nothing to say once headers are sent,
        and would cost each token five calls."""
        scope[DIRECT_SEND] = send
        await super().__call__(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            document = super().openapi()
            for path in document.get("paths", {}).values():
                for operation in path.values():
                    operation.get("responses", {}).pop("422", None)
            schemas = document.get("components", {}).get("schemas", {})
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
        assert self.openapi_schema is not None
        return self.openapi_schema


def create_app(state: ServerState) -> FastAPI:
    config = state.config
    app = QuireApp(
        title="Quire",
        version=quire.__version__,
        openapi_url=None if config.disable_docs else "/openapi.json",
        docs_url=None if config.disable_docs else "/docs",
        redoc_url=None if config.disable_docs else "/redoc",
    )
    app.root_path = config.root_path
    app.state.quire = state
    for router in _ROUTERS:
        app.include_router(router)
    errors.install(app)
    # The last added is the first asked.
    app.add_middleware(BodyLimitMiddleware, limit=config.max_body_bytes)
    app.add_middleware(
        ApiKeyMiddleware, keys=config.api_keys, protect_metrics=config.protect_metrics
    )
    app.add_middleware(
        CORSMiddleware,
        allow_origins=list(config.allowed_origins),
        allow_methods=list(config.allowed_methods),
        allow_headers=list(config.allowed_headers),
        allow_credentials=config.allow_credentials,
    )
    return app
