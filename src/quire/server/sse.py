"""Server-sent events as raw ASGI: bytes go from an iterator to the socket.

The status line waits for the first bytes, so that what goes wrong before them is a plain HTTP
error. After that an error is an event, and the last event is `[DONE]` either way.
"""

import asyncio
from collections.abc import AsyncIterator, Callable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from quire.server.errors import ClientGoneError, as_api_error
from quire.server.replies import encode_json

DIRECT_SEND = "quire.send"  # where a scope has the server's own send, past all middleware
DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"


def event(body: bytes) -> bytes:
    return b"data: " + body + b"\n\n"


def named_event(name: str, body: bytes) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + body + b"\n\n"


def error_events(error: BaseException) -> bytes:
    """How a stream ends that cannot go on."""
    return event(encode_json(as_api_error(error).body())) + DONE


class EventStream(Response):
    """A streamed answer.

    Args:
        events: whole events, as bytes; what it raises ends the stream.
        close: called at the end, however it comes.
        keep_alive: seconds of silence after which a comment is sent.
        on_error: the bytes that tell a client of an error after the first byte.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncIterator[bytes],
        close: Callable[[], None],
        keep_alive: float | None = None,
        headers: dict[str, str] | None = None,
        on_error: Callable[[BaseException], bytes] = error_events,
    ) -> None:
        self.status_code = 200
        self.background = None
        self._events = events if keep_alive is None else _with_comments(events, keep_alive)
        self._close = close
        self._on_error = on_error
        self.init_headers(headers)
        self.headers["Cache-Control"] = "no-cache"
        self.headers["X-Accel-Buffering"] = "no"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False
        direct: Send = scope.get(DIRECT_SEND, send)
        try:
            try:
                async for data in self._events:
                    if not started:
                        started = True
                        await self._start(send)
                    await direct({"type": "http.response.body", "body": data, "more_body": True})
            except ClientGoneError:
                raise
            except Exception as error:
                if not started:
                    raise
                data = self._on_error(error)
                await send({"type": "http.response.body", "body": data, "more_body": True})
            if not started:
                await self._start(send)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except ClientGoneError:
            if started:
                return  # the connection is closed: no end of the answer can reach anybody
            raise
        finally:
            self._close()

    async def _start(self, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )


async def _with_comments(events: AsyncIterator[bytes], interval: float) -> AsyncIterator[bytes]:
    """The events, with a comment in every silence of `interval` seconds."""
    waiting: asyncio.Future[bytes] | None = None
    try:
        while True:
            waiting = asyncio.ensure_future(anext(events))
            while not (await asyncio.wait({waiting}, timeout=interval))[0]:
                yield KEEP_ALIVE
            try:
                data = waiting.result()
            except StopAsyncIteration:
                return
            waiting = None
            yield data
    finally:
        if waiting is not None:
            waiting.cancel()
