"""Who may ask: API keys, and which bodies are read at all.

Plain ASGI: nothing is read or built before the key is known to be right, and a body that is too
large is never held in memory.
"""

import hashlib
import hmac
from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quire.server.config import ApiKey
from quire.server.errors import APIError, route_path

KEY_SCOPE = "quire.key"  # where a request's key name is found in its ASGI scope

# Open to everybody: what load balancers ask, and the page that asks for the key.
OPEN_PATHS = frozenset({"/health", "/ready", "/ping", "/", "/favicon.ico"})
OPEN_PREFIXES = ("/static/",)
METRICS_PATHS = ("/metrics",)


class ApiKeyMiddleware:
    """Refuses requests without a known key, in a time that does not depend on the key tried.

    Args:
        keys: empty lets everybody in.
        protect_metrics: /metrics needs a key too.
    """

    def __init__(self, app: ASGIApp, keys: Sequence[ApiKey], protect_metrics: bool) -> None:
        self._app = app
        self._digests = [(_digest(key.secret.encode()), key.name) for key in keys]
        self._open = OPEN_PATHS if protect_metrics else OPEN_PATHS | set(METRICS_PATHS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._digests and scope["type"] == "http" and scope["method"] != "OPTIONS":
            name = self._key_name(scope)
            path = route_path(scope)
            if name is None and path not in self._open and not path.startswith(OPEN_PREFIXES):
                refusal = APIError(401, "no valid API key")
                challenge = {"WWW-Authenticate": "Bearer"}
                answer = refusal.response(scope, {"error": "Unauthorized"}, challenge)
                await answer(scope, receive, send)
                return
            scope[KEY_SCOPE] = name
        await self._app(scope, receive, send)

    def _key_name(self, scope: Scope) -> str | None:
        given = _digest(_presented(scope))
        found = None
        for digest, name in self._digests:  # all of them, whichever matches
            if hmac.compare_digest(digest, given):
                found = name
        return found


def _presented(scope: Scope) -> bytes:
    """`Authorization: Bearer …`, or Anthropic's `x-api-key`."""
    key = b""
    for header, value in scope["headers"]:
        if header == b"authorization":
            scheme, _, rest = value.partition(b" ")
            if scheme.lower() == b"bearer":
                return bytes(rest.strip())
        elif header == b"x-api-key":
            key = value
    return key


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


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
