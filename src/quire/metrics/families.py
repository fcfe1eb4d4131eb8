"""The metrics of a server by name: vLLM's, then ours. Declared here, fed by `registry`."""

from collections.abc import Sequence

from quire.metrics import buckets
from quire.metrics.finished import FinishedRequest
from quire.metrics.instruments import Histogram, Instruments

FINISH_REASONS = ("stop", "length", "abort", "error", "repetition")
NO_KEY = "none"  # the name of a request's key where the server asks for no key
OTHER = "other"  # every name past the bound
REJECTIONS = ("max_num_queued_reqs", "max_num_queued_tokens")  # vLLM's; ours appear when they occur


class ServerFamilies:
    """One attribute a metric, named after it where the name is not too long."""

    def __init__(self, instruments: Instruments) -> None:
        self.instruments = instruments
        self._make_engine_state()
        self._make_counters()
        self._make_latencies()
        self._make_token_histograms()
        self._make_own()

    def _make_engine_state(self) -> None:
        gauge, following = self.instruments.gauge, self.instruments.following
        self.running = gauge("num_requests_running", "Sequences in the running batch.").labels()
        self.waiting = gauge("num_requests_waiting", "Sequences waiting to be run.").labels()
        by_reason = gauge(
            "num_requests_waiting_by_reason", "Sequences waiting, by what for.", ("reason",)
        )
        self.waiting_capacity = by_reason.labels("capacity")
        by_reason.labels("deferred")
        self.kv_usage = gauge(
            "kv_cache_usage_perc", "Used part of the KV cache; 1 is all of it."
        ).labels()
        sleep = gauge(
            "engine_sleep_state", "1 for the state that it is in; always awake.", ("sleep_state",)
        )
        sleep.labels("awake").value = 1
        sleep.labels("weights_offloaded")
        sleep.labels("discard_all")
        self.prefix_queries = following(
            "prefix_cache_queries", "Prompt tokens looked up in the prefix cache."
        )
        self.prefix_hits = following("prefix_cache_hits", "Of which found.")
        self.preemptions = following("num_preemptions", "Preemptions of running sequences.")
        for name in ("external_prefix_cache", "mm_cache"):  # vLLM's; nothing feeds them yet
            following(name + "_queries", "Always zero.")
            following(name + "_hits", "Always zero.")

    def _make_counters(self) -> None:
        counter = self.instruments.counter
        self.prompt_tokens = counter("prompt_tokens", "Prompt tokens processed.").labels()
        by_source = counter("prompt_tokens_by_source", "Prompt tokens, by source.", ("source",))
        self.prompt_local = by_source.labels("local_compute")
        self.prompt_hit = by_source.labels("local_cache_hit")
        by_source.labels("external_kv_transfer")
        self.prompt_cached = counter(
            "prompt_tokens_cached", "Prompt tokens found in the prefix cache."
        ).labels()
        cached_by_source = counter(
            "prompt_tokens_cached_by_source", "Cached prompt tokens, by source.", ("source",)
        )
        self.prompt_cached_device = cached_by_source.labels("device")
        for source in ("host", "p2p", "disk", "external_unspecified"):
            cached_by_source.labels(source)
        self.generation_tokens = counter("generation_tokens", "Tokens generated.").labels()
        self.success = counter(
            "request_success", "Ended sequences, by how they ended.", ("finished_reason",)
        )
        for reason in FINISH_REASONS:
            self.success.labels(reason)
        self.rejections = counter(
            "admission_rejections", "Requests refused.", ("reason",), fixed=("model_name",)
        )
        for reason in REJECTIONS:
            self.rejections.labels(reason)
        self.tool_parser = counter(
            "tool_call_parser_invocations",
            "Responses read by a tool parser.",
            ("mode", "outcome", "request_type"),
            fixed=("model_name",),
        )

    def _make_latencies(self) -> None:
        self.ttft = self._histogram(
            "time_to_first_token_seconds",
            "From a request's arrival to its first token.",
            buckets.TIME_TO_FIRST_TOKEN,
        )
        itl = self._histogram(
            "inter_token_latency_seconds",
            "Between two steps that gave a sequence tokens.",
            buckets.INTER_TOKEN_LATENCY,
        )
        self.observe_itl = itl.observe
        self.tpot = self._histogram(
            "request_time_per_output_token_seconds",
            "Mean time of a request's tokens after the first.",
            buckets.INTER_TOKEN_LATENCY,
        )
        latency = buckets.REQUEST_LATENCY
        histogram = self._histogram
        self.e2e = histogram("e2e_request_latency_seconds", "From arrival to the end.", latency)
        self.queue = histogram("request_queue_time_seconds", "Until first scheduled.", latency)
        self.inference = histogram(
            "request_inference_time_seconds", "From first scheduled to the last token.", latency
        )
        self.prefill = histogram(
            "request_prefill_time_seconds", "From first scheduled to the first token.", latency
        )
        self.decode = histogram(
            "request_decode_time_seconds", "From the first token to the last.", latency
        )

    def _make_token_histograms(self) -> None:
        self.iteration_tokens = self._histogram(
            "iteration_tokens_total", "Tokens computed by a step.", buckets.ITERATION_TOKENS
        )
        self.params_n = self._histogram(
            "request_params_n", "Parameter n of a request.", buckets.PARAMS_N
        )
        self.request_prompt_tokens = self._histogram("request_prompt_tokens", "Of a request.")
        self.request_generation_tokens = self._histogram(
            "request_generation_tokens", "Tokens generated by a sequence."
        )
        self.max_generation_tokens = self._histogram(
            "request_max_num_generation_tokens", "Tokens of a request's longest sequence."
        )
        self.params_max_tokens = self._histogram(
            "request_params_max_tokens", "Most tokens that a request may generate."
        )
        self.prefill_computed = self._histogram(
            "request_prefill_kv_computed_tokens", "Prompt tokens not found in the prefix cache."
        )
        self.request_preemptions = self._histogram(
            "request_num_preemptions", "Preemptions of a request.", buckets.PREEMPTIONS
        )
        self.up_to_max_len = (
            self.request_prompt_tokens,
            self.request_generation_tokens,
            self.max_generation_tokens,
            self.params_max_tokens,
            self.prefill_computed,
        )

    def _make_own(self) -> None:
        counter = self.instruments.counter
        self.arrived = counter("requests_arrived", "Requests accepted.").labels()
        following = self.instruments.following
        self.restarts = following("engine_restarts", "Engines started after one that died.")
        self.resumed = following("requests_resumed", "Requests that went on in another engine.")
        self.invalid = following("engine_invalid_messages", "Messages dropped as malformed.")
        self.frontend_seconds = counter(
            "frontend_cpu_seconds", "CPU time of the front end between steps, while it is busy."
        ).labels()
        self.frontend_per_token = self._histogram(
            "frontend_seconds_per_token",
            "CPU time of the front end between two steps, per token of the first.",
            buckets.FRONTEND_SECONDS,
        )

    def _histogram(self, name: str, help_text: str, bounds: Sequence[float] = ()) -> Histogram:
        return self.instruments.histogram(name, help_text, bounds).labels()

    def set_max_model_len(self, max_model_len: int) -> None:
        """Give the token histograms their buckets; nothing is observed before the model is."""
        bounds = buckets.one_two_five(max_model_len)
        for histogram in self.up_to_max_len:
            if not histogram.count:
                histogram.set_bounds(bounds)


class KeyUsage:
    """Counters by key name.

    Args:
        max_names: names told apart; those that come later are counted together as "other".
    """

    def __init__(self, instruments: Instruments, max_names: int) -> None:
        label = ("api_key_name",)
        counter = instruments.counter
        self._requests = counter("usage_requests", "Ended requests by API key name.", label)
        self._prompt = counter("usage_prompt_tokens", "Prompt tokens by API key name.", label)
        self._cached = counter(
            "usage_prompt_tokens_cached",
            "Prompt tokens found in the prefix cache, by API key name.",
            label,
        )
        self._generation = counter(
            "usage_generation_tokens", "Generated tokens by API key name.", label
        )
        self._latency = instruments.histogram(
            "usage_request_latency_seconds",
            "From arrival to end of a request, by API key name.",
            buckets.KEY_LATENCY,
            label,
        )
        self._max_names = max_names
        self._names: set[str] = set()

    def finished(self, request: FinishedRequest) -> None:
        name = request.key_name or NO_KEY
        if name not in self._names and len(self._names) >= self._max_names:
            name = OTHER
        self._names.add(name)
        computed = request.prompt_computed
        self._requests.labels(name).value += 1
        self._generation.labels(name).value += request.total_generation_tokens
        self._latency.labels(name).observe(request.e2e)
        self._prompt.labels(name).value += request.prompt_tokens if computed else 0
        self._cached.labels(name).value += request.cached_tokens if computed else 0
