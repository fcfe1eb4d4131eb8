"""HTTP metrics as prometheus-fastapi-instrumentator names them, from a small ASGI middleware.

Counts by route template, never by the path a client made up. Streaming responses are measured to
their last byte.
"""

import time

from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from quire.metrics import buckets
from quire.metrics.instruments import Instruments

EXCLUDED = frozenset(("/metrics", "/health", "/ready", "/load", "/ping", "/version"))
_METHODS = frozenset(("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"))


class HttpMetrics:
    """The families, registered in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        made = Instruments("http_", {})
        self._requests = made.counter(
            "requests", "Total number of requests by method, status and handler.",
            ("handler", "method", "status"),
        )  # fmt: skip
        self._request_size = made.summary(
            "request_size_bytes", "Content length of incoming requests by handler.", ("handler",)
        )
        self._response_size = made.summary(
            "response_size_bytes", "Content length of outgoing responses by handler.", ("handler",)
        )
        self._highr = made.histogram(
            "request_duration_highr_seconds", "Latency with many buckets but no labels.",
            buckets.HTTP_DURATION_HIGHR,
        ).labels()  # fmt: skip
        self._duration = made.histogram(
            "request_duration_seconds", "Latency with few buckets, by handler and method.",
            buckets.HTTP_DURATION, ("handler", "method"),
        )  # fmt: skip
        registry.register(made)

    def observe(
        self, handler: str, method: str, status: int, seconds: float, received: int, sent: int
    ) -> None:
        method = method if method in _METHODS else "OTHER"
        self._requests.labels(handler, method, f"{status // 100}xx").value += 1
        self._request_size.labels(handler).observe(received)
        self._response_size.labels(handler).observe(sent)
        self._duration.labels(handler, method).observe(seconds)
        self._highr.observe(seconds)


class HttpMetricsMiddleware:
    """Wraps an ASGI app; put it outermost, so that refused requests count too."""

    def __init__(self, app: ASGIApp, metrics: HttpMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in EXCLUDED:
            await self._app(scope, receive, send)
            return
        status, sent = 500, 0  # what a client sees of an app that raises

        async def send_counted(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                sent += len(message.get("body", b""))
            await send(message)

        start = time.perf_counter()
        try:
            await self._app(scope, receive, send_counted)
        finally:
            self._metrics.observe(
                _handler(scope),
                scope["method"],
                status,
                time.perf_counter() - start,
                _content_length(scope),
                sent,
            )


def _handler(scope: Scope) -> str:
    """The template of the route that took the request; "none" if there was none."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else "none"


def _content_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0
