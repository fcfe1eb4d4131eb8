"""Spans, in OpenTelemetry's own in-memory exporter."""

import asyncio
import subprocess
import sys

import pytest

from quire.metrics.config import ObservabilityConfig
from quire.metrics.registry import ServerMetrics
from quire.metrics.setup import make_metrics
from quire.metrics.tracing import TraceContextMiddleware, Tracer

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"


@pytest.fixture
def traced():
    """(metrics that trace, the finished spans)."""
    memory = pytest.importorskip(
        "opentelemetry.sdk.trace.export.in_memory_span_exporter", reason="needs the otel extra"
    )
    exporter = memory.InMemorySpanExporter()
    metrics = ServerMetrics("the-model", "quire", 4096)
    metrics.request_listeners.append(Tracer("the-model", "", exporter=exporter))
    metrics.wrappers.append(TraceContextMiddleware)
    return metrics, exporter.get_finished_spans


def ask(metrics: ServerMetrics, request, headers: list[tuple[bytes, bytes]]) -> None:
    """An HTTP request that submits `request`; it ends in another task, as it does in a server."""

    async def app(scope, receive, send) -> None:
        metrics.on_request_arrived(request, None)

    async def run() -> None:
        scope = {"type": "http", "path": "/v1/completions", "method": "POST", "headers": headers}
        await asyncio.create_task(metrics.wrap(app)(scope, None, None))  # type: ignore[arg-type]

    asyncio.run(run())
    metrics.on_finished(request, "stop", None)


def test_a_span_with_its_attributes(traced, make_request) -> None:
    metrics, spans = traced
    ask(metrics, make_request(), [(b"traceparent", f"00-{TRACE_ID}-{PARENT_ID}-01".encode())])
    (span,) = spans()
    assert span.name == "llm_request"
    assert span.kind.name == "SERVER"
    assert f"{span.context.trace_id:032x}" == TRACE_ID
    assert f"{span.parent.span_id:016x}" == PARENT_ID
    assert (span.end_time - span.start_time) / 1e9 == pytest.approx(4.0)
    assert dict(span.attributes) == {
        "gen_ai.response.model": "the-model",
        "gen_ai.response.finish_reason": "stop",
        "gen_ai.request.id": "cmpl-1",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.max_tokens": 20,
        "gen_ai.request.n": 1,
        "gen_ai.usage.num_sequences": 1,
        "gen_ai.usage.prompt_tokens": 10,
        "gen_ai.usage.completion_tokens": 5,
        "gen_ai.latency.time_in_queue": 0.5,
        "gen_ai.latency.time_to_first_token": 1.0,
        "gen_ai.latency.time_in_model_prefill": 0.5,
        "gen_ai.latency.time_in_model_decode": 2.0,
        "gen_ai.latency.time_in_model_inference": 2.5,
        "gen_ai.latency.e2e": 4.0,
    }


@pytest.mark.parametrize("headers", [[], [(b"traceparent", b"nonsense")]])
def test_without_a_parent(traced, make_request, headers) -> None:
    metrics, spans = traced
    ask(metrics, make_request(), headers)
    assert spans()[0].parent is None


def test_errors_are_marked(traced, make_request) -> None:
    metrics, spans = traced
    request = make_request(reason="error")
    request.metrics.first_token_time = None
    ask(metrics, request, [])
    (span,) = spans()
    assert span.status.status_code.name == "ERROR"
    assert "gen_ai.latency.time_to_first_token" not in span.attributes


def test_requests_do_not_inherit_each_others_parents(traced, make_request) -> None:
    metrics, spans = traced
    parent = f"00-{TRACE_ID}-{PARENT_ID}-01".encode()
    ask(metrics, make_request("a"), [(b"traceparent", parent)])
    ask(metrics, make_request("b"), [])
    assert [span.parent is None for span in spans()] == [False, True]


def test_exporters_and_protocols(traced) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs the otel extra")
    for protocol in ("grpc", "http/protobuf"):
        config = ObservabilityConfig(
            otlp_traces_endpoint="http://127.0.0.1:9/v1/traces",
            otlp_traces_protocol=protocol,  # type: ignore[arg-type]
        )
        metrics = make_metrics("m", config)
        assert TraceContextMiddleware in metrics.wrappers
        (tracer,) = (x for x in metrics.request_listeners if isinstance(x, Tracer))
        tracer.shutdown()


def test_opentelemetry_is_imported_only_when_enabled() -> None:
    code = """
import sys
from quire.metrics.config import ObservabilityConfig
from quire.metrics.setup import make_metrics
make_metrics("m", ObservabilityConfig())
assert not [m for m in sys.modules if m.startswith(("opentelemetry", "torch"))]
sys.modules["opentelemetry.sdk.trace"] = None  # as if it were not installed
try:
    make_metrics("m", ObservabilityConfig(otlp_traces_endpoint="http://localhost:4317"))
except ValueError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "pip install 'quire[otel]'" in done.stdout
