"""What can be chosen about a server's metrics, logs and traces."""

from dataclasses import dataclass
from typing import Literal

from quire.core.option import option


@dataclass(frozen=True, slots=True)
class ObservabilityConfig:
    """What a running server says about itself."""

    metrics_prefix: str = option("quire", "What metric names begin with; vllm for its dashboards.")
    enable_log_requests: bool = option(
        False, "Log a line for every request.", opposites=("disable_log_requests",)
    )
    log_format: Literal["text", "json"] = option("text", "How log lines are written.")
    log_stats: bool = option(
        True, "Log a line every ten seconds under load.", opposites=("disable_log_stats",)
    )
    otlp_traces_endpoint: str | None = option(
        None, "Where OpenTelemetry traces are sent (needs the otel extra)."
    )
    otlp_traces_protocol: Literal["grpc", "http/protobuf"] = option("grpc", "How traces are sent.")
