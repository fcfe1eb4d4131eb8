"""Everything that observes a server, put together from its options."""

from quire.core.errors import ConfigError
from quire.metrics.config import ObservabilityConfig
from quire.metrics.log_lines import RequestLog, StatusLine
from quire.metrics.registry import ServerMetrics
from quire.metrics.tracing import TraceContextMiddleware, Tracer


def make_metrics(model_name: str, config: ObservabilityConfig) -> ServerMetrics:
    """Metrics, with the request log, the status line and the tracer attached as asked for.

    Raises:
        ConfigError: the prefix, or OpenTelemetry is not installed.
    """
    prefix = config.metrics_prefix
    if not prefix.isascii() or not prefix.replace("_", "a").isalnum() or prefix[0].isdigit():
        raise ConfigError(
            f"metrics_prefix must be letters, digits and underscores, got {prefix!r}; "
            "dashboards made for vLLM want 'vllm'"
        )
    metrics = ServerMetrics(model_name, prefix)
    metrics.request_listeners.append(RequestLog(every=config.enable_log_requests))
    if config.log_stats:
        metrics.step_listener = StatusLine(metrics).step
    if config.otlp_traces_endpoint:
        metrics.request_listeners.append(
            Tracer(model_name, config.otlp_traces_endpoint, config.otlp_traces_protocol)
        )
        metrics.wrappers.append(TraceContextMiddleware)
    return metrics
