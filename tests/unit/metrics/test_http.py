"""HTTP metrics around a real FastAPI application."""

import asyncio
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from httpx import ASGITransport, AsyncClient
from prometheus_client.parser import text_string_to_metric_families

from quire.metrics.registry import ServerMetrics

Samples = dict[tuple[str, ...], float]


def make_app() -> FastAPI:
    app = FastAPI()

    @app.get("/items/{number}")
    async def item(number: int) -> str:
        return "x" * number

    @app.post("/stream")
    async def stream() -> StreamingResponse:
        def pieces() -> Iterator[bytes]:
            yield from [b"12345"] * 4

        return StreamingResponse(pieces())

    @app.get("/health")
    async def health() -> None: ...

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("it broke")

    return app


@pytest.fixture
def samples() -> Samples:
    """After some requests: (name, label values in the order of their names) -> value."""
    metrics = ServerMetrics("m")
    app = metrics.wrap(make_app())

    async def ask() -> None:
        transport = ASGITransport(app=app, raise_app_exceptions=False)
        async with AsyncClient(transport=transport, base_url="http://test") as client:
            for number in (3, 5):
                await client.get(f"/items/{number}")
            await client.get("/items/word")
            await client.post("/stream", content=b"abc")
            await client.get("/health")
            await client.get("/nowhere/1")
            await client.get("/nowhere/2")
            await client.request("BREW", "/items/1")
            await client.request("STEEP", "/items/1")
            await client.get("/broken")

    asyncio.run(ask())
    text = metrics.exposition()[0].decode()
    return {
        (s.name, *(value for _, value in sorted(s.labels.items()))): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
        if s.name.startswith("http_")
    }


def test_requests_by_route_method_and_status(samples) -> None:
    counted = {k[1:]: v for k, v in samples.items() if k[0] == "http_requests_total"}
    assert counted == {
        ("/items/{number}", "GET", "2xx"): 2,
        ("/items/{number}", "GET", "4xx"): 1,
        ("/stream", "POST", "2xx"): 1,
        ("none", "GET", "4xx"): 2,
        ("/items/{number}", "OTHER", "4xx"): 2,
        ("/broken", "GET", "5xx"): 1,
    }


def test_sizes_and_durations(samples) -> None:
    assert samples["http_request_size_bytes_sum", "/stream"] == 3
    assert samples["http_response_size_bytes_sum", "/stream"] == 20
    assert samples["http_response_size_bytes_count", "/items/{number}"] == 5
    assert samples["http_request_duration_seconds_count", "/stream", "POST"] == 1
    assert samples["http_request_duration_seconds_bucket", "/stream", "+Inf", "POST"] == 1
    assert samples["http_request_duration_highr_seconds_count",] == 9
