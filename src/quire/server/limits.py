"""The body size limit. Plain ASGI, so that a body too large is never held in memory."""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quire.server.errors import APIError


class BodyLimitMiddleware:
    """Answers 413 once a body is known to be larger than `limit` bytes."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit
        self._message = (
            f"the request body is larger than {limit} bytes; send less, or raise --max-body-bytes"
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = next((v for h, v in scope["headers"] if h == b"content-length"), b"")
        if declared.isdigit() and int(declared) > self._limit:
            await APIError(413, self._message).response()(scope, receive, send)
            return
        if declared:
            await self._app(scope, receive, send)
            return
        size = 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._limit:
                raise HTTPException(413, self._message)
            return message

        await self._app(scope, counted, send)
