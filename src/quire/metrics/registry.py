"""ServerMetrics: what the front end counts, under vLLM's names.

Same names after the prefix, types, labels and buckets as vLLM, so that dashboards and autoscalers
written for it work with `--metrics-prefix vllm`; added are restarts, resumed requests, the front
end's own cost and usage by key. Belongs to the event loop; no locks, no timers, no global registry.
"""

import time
from collections.abc import Callable, Iterator
from typing import Protocol

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.metrics_core import Metric
from starlette.types import ASGIApp

from quire.core.config import EngineConfig
from quire.core.messages import EngineStats, StepOutputs
from quire.engine.frontend_request import TrackedRequest
from quire.engine.remote import EngineState, RemoteEngine
from quire.metrics.families import KeyUsage, ServerFamilies
from quire.metrics.finished import FinishedRequest
from quire.metrics.http import HttpMetrics, HttpMetricsMiddleware
from quire.metrics.instruments import Instruments

MAX_KEY_NAMES = 64
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

IDLE = EngineStats(
    num_running=0,
    num_waiting=0,
    kv_usage=0.0,
    prefix_queries=0,
    prefix_hits=0,
    num_preemptions=0,
    num_steps=0,
)


class RequestListener(Protocol):
    """Told of requests beside the metrics: the request log, the tracer."""

    def arrived(self, request_id: str) -> None:
        """Accepted, in the task that answers it."""

    def finished(self, done: FinishedRequest) -> None:
        """Ended, however it ended."""


class ServerMetrics:
    """Callbacks for the front end, bytes for `/metrics`.

    For each step `on_step` comes first, then `on_first_token` and `on_tokens` for the requests in
    it. For each request `on_request_arrived` or `on_rejected`, then `on_finished` once.

    Args:
        model_name: the first served name; the label of everything.
        prefix: "quire", or "vllm" for dashboards that expect it.
        max_model_len: ends the buckets of token counts; None: the watched engine's.
        max_key_names: API key names told apart in the usage counters.
        cpu_seconds: CPU time that this process has used.
    """

    def __init__(
        self,
        model_name: str,
        prefix: str = "quire",
        max_model_len: int | None = None,
        *,
        max_key_names: int = MAX_KEY_NAMES,
        cpu_seconds: Callable[[], float] = time.process_time,
    ) -> None:
        self.stats = IDLE
        self.request_listeners: list[RequestListener] = []
        self.step_listener: Callable[[], None] = lambda: None
        self.wrappers: list[Callable[[ASGIApp], ASGIApp]] = []
        self._cpu_seconds = cpu_seconds
        self._cpu_seen = 0.0  # at the last step
        self._step_prompt = self._step_generated = 0  # tokens since the last step began
        self._engine: RemoteEngine | None = None
        self._config: EngineConfig | None = None
        self._num_queued: Callable[[], int] = lambda: 0
        self._knows_model = False
        self._num_unfinished = 0
        self._instruments = Instruments(prefix + ":", {"model_name": model_name, "engine": "0"})
        self._made = ServerFamilies(self._instruments)
        self._usage = KeyUsage(self._instruments, max_key_names)
        if max_model_len is not None:
            self._made.set_max_model_len(max_model_len)
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)
        self._http = HttpMetrics(self.registry)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """The app with its HTTP requests counted, and whatever else listens to them."""
        for wrapper in self.wrappers:
            app = wrapper(app)
        return HttpMetricsMiddleware(app, self._http)

    # --- requests ---

    def on_request_arrived(self, request: TrackedRequest, key: str | None) -> None:
        """It was admitted and sent to the engine."""
        if not self._knows_model:
            self._learn_model()
        self._made.arrived.value += 1
        self._num_unfinished += 1
        for listener in self.request_listeners:
            listener.arrived(request.message.request_id)

    def on_rejected(self, reason: str) -> None:
        """Refused at admission. `reason` is one of a closed set in the code, never user text."""
        self._made.rejections.labels(reason).value += 1

    def on_first_token(self, request: TrackedRequest, key: str | None) -> None:
        """Its prompt is computed. The token itself is counted by `on_tokens`."""
        self._count_prompt(request)
        first = request.metrics.first_token_time
        if first is not None:
            self._made.ttft.observe(first - request.metrics.arrival_time)

    def _count_prompt(self, request: TrackedRequest) -> None:
        prompt = len(request.message.prompt_token_ids)
        cached = request.num_cached_tokens or 0
        self._step_prompt += prompt - cached
        made = self._made
        made.prompt_tokens.value += prompt
        made.prompt_local.value += prompt - cached
        made.prompt_hit.value += cached
        made.prompt_cached.value += cached
        made.prompt_cached_device.value += cached

    def on_tokens(self, request: TrackedRequest, count: int, interval: float | None) -> None:
        """A sequence got tokens, `interval` seconds after the request's previous ones. The hot
        path. No interval: these are the first, or another sequence's of the same step."""
        self._step_generated += count
        if interval:
            self._made.observe_itl(interval)

    def on_step(self, outputs: StepOutputs) -> None:
        """The engine finished a step; its deltas are about to be dispatched."""
        made, stats, cpu = self._made, outputs.stats, self._cpu_seconds()
        # If nothing ran, the time since the step before was not spent on its outputs alone.
        self._flush(cpu if self.stats.num_running else None)
        if stats.num_steps < self.stats.num_steps:  # another engine, which counts from zero
            self._follow_totals()
            for total in (made.prefix_queries, made.prefix_hits, made.preemptions):
                total.restart()
        self.stats = stats
        self._cpu_seen = cpu
        self.step_listener()

    def _flush(self, cpu: float | None) -> None:
        """Count the step that has been dispatched since `on_step`."""
        generated = self._step_generated
        tokens = self._step_prompt + generated
        if not tokens:
            return
        self._step_prompt = self._step_generated = 0
        made = self._made
        made.generation_tokens.value += generated
        made.iteration_tokens.observe(tokens)
        if cpu is not None and generated:
            seconds = cpu - self._cpu_seen
            made.frontend_seconds.value += seconds
            made.frontend_per_token.observe(seconds / generated)

    def on_finished(self, request: TrackedRequest, status: str, key: str | None) -> None:
        """The whole request is over. `status` is for sequences that have no reason of their
        own: "abort" or "error"."""
        done = FinishedRequest(request, status, key, time.monotonic())
        self._num_unfinished -= 1
        if request.message.pooling is not None and done.reason == "stop":
            self._count_prompt(request)  # a request for a vector has no first token
        self._count_finished(done)
        self._usage.finished(done)
        for listener in self.request_listeners:
            listener.finished(done)

    def _count_finished(self, done: FinishedRequest) -> None:
        made = self._made
        for reason, tokens in zip(done.reasons, done.generation_tokens):
            made.success.labels(reason).value += 1
            made.request_generation_tokens.observe(tokens)
        made.params_n.observe(done.request.params.n)
        made.params_max_tokens.observe(done.request.max_tokens)
        made.max_generation_tokens.observe(max(done.generation_tokens, default=0))
        made.request_prompt_tokens.observe(done.prompt_tokens)
        made.request_preemptions.observe(done.num_preemptions)
        if done.prompt_computed:
            made.prefill_computed.observe(done.prompt_tokens - done.cached_tokens)
        for histogram, seconds in (
            (made.e2e, done.e2e),
            (made.queue, done.queue),
            (made.prefill, done.prefill),
            (made.decode, done.decode),
            (made.inference, done.inference),
            (made.tpot, done.time_per_output_token),
        ):
            if seconds is not None:
                histogram.observe(seconds)

    # --- tools, engine ---

    def on_tool_parser(self, *, streaming: bool, called: bool, request_type: str) -> None:
        """A tool parser read a response. `request_type`: "chat_completions" or "responses"."""
        mode = "streaming" if streaming else "non_streaming"
        outcome = "tool_call" if called else "no_tool_call"
        self._made.tool_parser.labels(mode, outcome, request_type).value += 1

    def watch(
        self,
        engine: RemoteEngine,
        config: EngineConfig,
        num_queued: Callable[[], int] = lambda: 0,
    ) -> None:
        """Read the engine's own figures whenever they are asked for. `num_queued`: requests that
        wait before it, for admission."""
        self._engine, self._config, self._num_queued = engine, config, num_queued

    def _learn_model(self) -> None:
        """Once the engine has loaded: what depends on the model."""
        info = None if self._engine is None else self._engine.model_info
        if info is None or self._config is None:
            return
        self._knows_model = True
        self._made.set_max_model_len(info.max_model_len)
        labels = {
            "block_size": info.page_size,
            "cache_dtype": info.kv_cache_dtype,
            "enable_prefix_caching": info.enable_prefix_caching,
            "gpu_memory_utilization": self._config.cache.gpu_memory_utilization,
            "kv_cache_memory_bytes": info.kv_bytes,
            "num_gpu_blocks": max(info.num_pages, default=0),
        }
        family = self._instruments.gauge(
            "cache_config_info", "Configuration of the KV cache.", tuple(labels)
        )
        family.labels(*map(str, labels.values())).value = 1

    # --- reading ---

    def exposition(self) -> tuple[bytes, str]:
        """(body, content type) of `/metrics`: the text format, whatever the client would rather
        have, as prometheus_client's OpenMetrics turns the colon of our names into an underscore."""
        return generate_latest(self.registry), CONTENT_TYPE

    def totals(self) -> tuple[float, float]:
        """Prompt tokens and generated tokens so far."""
        return (
            self._made.prompt_tokens.value,
            self._made.generation_tokens.value + self._step_generated,
        )

    def collect(self) -> Iterator[Metric]:
        """prometheus_client's collector protocol."""
        if not self._knows_model:
            self._learn_model()
        self._flush(None)
        self._follow_engine()
        self._follow_totals()
        return self._instruments.collect()

    def _follow_engine(self) -> None:
        engine, stats = self._engine, self.stats
        running, waiting = stats.num_running, stats.num_waiting
        if engine is not None:
            self._made.restarts.follow(engine.num_restarts)
            self._made.resumed.follow(engine.num_resumed)
            self._made.invalid.follow(engine.num_invalid)
            if engine.state is not EngineState.READY:  # everything waits for the next engine
                running, waiting = 0, self._num_unfinished
        made = self._made
        made.running.value = running
        made.waiting.value = made.waiting_capacity.value = waiting + self._num_queued()
        made.kv_usage.value = stats.kv_usage if running else 0.0

    def _follow_totals(self) -> None:
        stats = self.stats
        self._made.prefix_queries.follow(stats.prefix_queries)
        self._made.prefix_hits.follow(stats.prefix_hits)
        self._made.preemptions.follow(stats.num_preemptions)
