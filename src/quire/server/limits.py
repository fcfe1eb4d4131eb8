"""Which bodies are read at all. Plain ASGI, so that one too large is never held in memory."""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quire.server.errors import APIError


class BodyLimitMiddleware:
    """Answers 413 once a body is known to be larger than `limit` bytes, and 400 to one that is
    compressed: nobody knows how large that is."""

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
        headers = dict(scope["headers"])
        coding = headers.get(b"content-encoding", b"identity").decode("latin-1")
        declared = headers.get(b"content-length", b"")
        refusal = None
        if coding.lower() != "identity":
            refusal = APIError(400, f"Content-Encoding {coding!r} is not supported; send it plain")
        elif declared.isdigit() and int(declared) > self._limit:
            refusal = APIError(413, self._message)
        if refusal is not None:
            await refusal.response(scope)(scope, receive, send)
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
