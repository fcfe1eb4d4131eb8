"""OpenTelemetry: one span a request, under the GenAI attribute names that vLLM uses.

Needs the `otel` extra, and imports it only when an endpoint is configured. Spans are made when a
request ends, from its recorded times, so a running request costs nothing.
"""

import time
from contextvars import ContextVar
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Receive, Scope, Send

from quire.core.errors import ConfigError
from quire.metrics.finished import FinishedRequest

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

TRACE_HEADERS = ("traceparent", "tracestate")
SPAN_NAME = "llm_request"


# The trace headers of the HTTP request that the current task answers.
_HEADERS: ContextVar[dict[str, str]] = ContextVar("quire_trace_headers")


class TraceContextMiddleware:
    """Notes each request's `traceparent`, so that its span joins the caller's trace."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            names = ((name.decode("latin-1"), value) for name, value in scope["headers"])
            _HEADERS.set({k: v.decode("latin-1") for k, v in names if k in TRACE_HEADERS})
        await self._app(scope, receive, send)


class Tracer:
    """Listens to `ServerMetrics`; exports in the SDK's own thread, in batches.

    Args:
        model_name: `gen_ai.response.model`.
        endpoint: where a collector takes OTLP; may be empty if `exporter` is given.
        protocol: "grpc" or "http/protobuf".
        exporter: another destination than `endpoint`; spans reach it at once.

    Raises:
        ConfigError: the `otel` extra is not installed.
    """

    def __init__(
        self,
        model_name: str,
        endpoint: str,
        protocol: str = "grpc",
        exporter: "SpanExporter | None" = None,
    ) -> None:
        try:
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
            from opentelemetry.trace import SpanKind, Status, StatusCode
            from opentelemetry.trace.propagation.tracecontext import (
                TraceContextTextMapPropagator,
            )
        except ImportError as error:
            raise ConfigError(
                f"otlp_traces_endpoint needs OpenTelemetry ({error}): pip install 'quire[otel]'"
            ) from None
        self._model_name = model_name
        resource = Resource.create({"service.name": "quire"})  # OTEL_SERVICE_NAME overrides
        self._provider = TracerProvider(resource=resource)
        if exporter is not None:
            self._provider.add_span_processor(SimpleSpanProcessor(exporter))
        else:
            self._provider.add_span_processor(BatchSpanProcessor(_exporter(endpoint, protocol)))
        self._tracer = self._provider.get_tracer("quire")
        self._kind = SpanKind.SERVER
        self._failed = Status(StatusCode.ERROR)
        self._propagator = TraceContextTextMapPropagator()
        self._headers: dict[str, dict[str, str]] = {}  # of unfinished requests that have any

    def arrived(self, request_id: str) -> None:
        """Note whose span this request's will be a child of."""
        headers = _HEADERS.get({})
        if headers:
            self._headers[request_id] = headers

    def finished(self, done: FinishedRequest) -> None:
        end = time.time_ns()
        # Malformed headers: a new trace.
        context = self._propagator.extract(self._headers.pop(done.request_id, {}))
        span = self._tracer.start_span(
            SPAN_NAME,
            context=context,
            kind=self._kind,
            attributes=_attributes(done, self._model_name),
            start_time=end - int(done.e2e * 1e9),
        )
        if done.reason == "error":
            span.set_status(self._failed)
        span.end(end)

    def shutdown(self) -> None:
        """Export what is left."""
        self._provider.shutdown()


def _exporter(endpoint: str, protocol: str) -> "SpanExporter":
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as Grpc

        return Grpc(endpoint=endpoint, insecure=not endpoint.startswith("https://"))
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as Http

    return Http(endpoint=endpoint)


def _attributes(done: FinishedRequest, model_name: str) -> dict[str, str | int | float]:
    params = done.request.params
    known: dict[str, str | int | float | None] = {
        "gen_ai.response.model": model_name,
        "gen_ai.request.id": done.request_id,
        "gen_ai.request.temperature": params.temperature,
        "gen_ai.request.top_p": params.top_p,
        "gen_ai.request.max_tokens": done.request.max_tokens,
        "gen_ai.request.n": params.n,
        "gen_ai.usage.num_sequences": len(done.reasons),
        "gen_ai.usage.prompt_tokens": done.prompt_tokens,
        "gen_ai.usage.completion_tokens": done.total_generation_tokens,
        "gen_ai.latency.time_in_queue": done.queue,
        "gen_ai.latency.time_to_first_token": done.time_to_first_token,
        "gen_ai.latency.time_in_model_prefill": done.prefill,
        "gen_ai.latency.time_in_model_decode": done.decode,
        "gen_ai.latency.time_in_model_inference": done.inference,
        "gen_ai.latency.e2e": done.e2e,
        "gen_ai.response.finish_reason": done.reason,
    }
    return {name: value for name, value in known.items() if value is not None}
