"""The configuration: a tree of frozen dataclasses, the same for the CLI, YAML and `LLM(**kw)`.

A user's `EngineConfig` may leave values "auto" (None). `core.resolve` and the runner's memory
plan turn each into a value with its reason; nothing downstream sees None-meaning-auto. Every
subsystem gets only its own sub-config. What a field means to a user stands in its `option`:
flags, their help, `--config` files and environment variables are made from it.
"""

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from quire.core.errors import ConfigError, NotYetSupportedError, nearest
from quire.core.keywords import ENGINE_NOT_YET, NO_EFFECT, asks_for_nothing
from quire.core.option import option, options_of, spellings
from quire.core.pooling_params import POOLINGS, Pooling

BOXED_MODEL = "boxed"  # MODEL's default: the small chat model that ships with the package

DTYPES = ("auto", "half", "float16", "bfloat16", "float", "float32")
LOAD_FORMATS = ("auto", "safetensors", "pt", "dummy")

# Groups of the server's options in help.
ADDRESS, ACCESS, CONVERSATIONS = "Address", "Access", "Conversations"
ANSWERS, LIMITS, RUNNING = "Answers", "Limits", "Running and stopping"


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Which model, and how its files are read."""

    model: str = option(BOXED_MODEL, "The model: a folder or a Hub id.")
    tokenizer: str | None = option(None, "Folder or Hub id of another tokenizer.")
    tokenizer_mode: Literal["auto", "slow"] = option("auto", "Which tokenizer implementation.")
    skip_tokenizer_init: bool = option(False, "Load no tokenizer: token ids in, token ids out.")
    revision: str | None = option(None, "Branch, tag or commit of a Hub model.")
    tokenizer_revision: str | None = option(None, "The same for the tokenizer.")
    download_dir: str | None = option(None, "Where Hub files are kept.")
    hf_token: str | None = option(
        None, "Token for gated Hub models (default: HF_TOKEN).", secret=True
    )
    trust_remote_code: bool = option(False, "Run code that comes with the checkpoint.")
    dtype: str = option("auto", "Numbers the weights are held in.", choices=DTYPES)
    load_format: str = option(
        "auto", "Which weight files; dummy: random weights.", choices=LOAD_FORMATS
    )
    max_model_len: int | None = option(
        None,
        "Most tokens of a prompt and its output together: 8192, 8k, or auto for the model's own,"
        " lowered to what fits.",
        kind="count",
        automatic=("auto", "-1"),
    )
    seed: int = option(0, "Seed of everything random.")
    model_impl: Literal["auto", "quire", "transformers"] = option("auto", "Whose model code.")
    generation_config: str = option(
        "auto",
        "Where sampling defaults come from: auto (the model's generation_config.json), vllm (none),"
        " or a folder with that file.",
    )
    override_generation_config: dict[str, Any] | None = option(
        None, "Sampling defaults that differ, such as '{\"temperature\": 0.5}'."
    )
    pooling: Pooling = option(
        "last", "How embeddings are made of hidden states where a request does not say."
    )
    max_logprobs: int = option(
        20, "Most log-probabilities per token a request may ask for; -1: any."
    )


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """The KV cache."""

    page_size: int = option(16, "Tokens in a KV cache page, a power of two.", name="block_size")
    gpu_memory_utilization: float = option(
        0.92, "Share of a GPU's memory to use, in (0, 1].", also=("device_memory_utilization",)
    )
    cpu_memory_fraction: float = option(
        0.4, "Share of the memory that is free after loading to use for the KV cache on a CPU."
    )
    kv_cache_memory_bytes: int | None = option(
        None, "Size of the KV cache, such as 2GiB.", kind="size"
    )
    num_pages: int | None = option(
        None,
        "Number of KV cache pages, whatever is measured.",
        name="num_gpu_blocks_override",
    )
    enable_prefix_caching: bool = option(
        True,
        "Reuse the KV cache of equal prompt beginnings.",
        opposites=("disable_prefix_caching",),
    )


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """Admission and batching."""

    max_num_seqs: int | None = option(None, "Most sequences computed together.", kind="count")
    max_num_batched_tokens: int | None = option(None, "Most tokens in a step.", kind="count")
    policy: Literal["fcfs", "priority"] = option(
        "fcfs", "Which request goes first.", name="scheduling_policy"
    )
    enable_chunked_prefill: bool = option(True, "Cut long prompts into several steps.")
    async_steps: int | None = option(
        None, "Steps planned ahead of the one being waited for (default: 1 on a GPU, 0 on a CPU)."
    )


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """Where it runs."""

    device: str = option("auto", "auto, cpu, cuda or cuda:N.")
    enforce_eager: bool = option(False, "Never use CUDA graphs.")
    tensor_parallel_size: int = option(1, "Devices to spread the model over.", also=("tp",))


@dataclass(frozen=True, slots=True)
class StructuredConfig:
    """Structured outputs: JSON, regexes and grammars that answers must follow."""

    grammar_timeout: float = option(
        5.0, "Seconds that compiling a grammar may take; after that its request fails."
    )
    disable_any_whitespace: bool = option(
        False, "Write JSON of structured outputs without any whitespace."
    )
    structured_outputs_config: dict[str, Any] | None = option(
        None, "The same in one object: '{\"disable_any_whitespace\": true}'."
    )

    @property
    def compact_json(self) -> bool:
        """Whether JSON has no whitespace, where a request does not say."""
        together = self.structured_outputs_config or {}
        return self.disable_any_whitespace or bool(together.get("disable_any_whitespace"))


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Everything an engine needs to start."""

    model: ModelConfig = field(default_factory=ModelConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    device: DeviceConfig = field(default_factory=DeviceConfig)
    structured: StructuredConfig = field(default_factory=StructuredConfig)


SECTIONS: dict[str, type] = {
    "model": ModelConfig,
    "cache": CacheConfig,
    "scheduler": SchedulerConfig,
    "device": DeviceConfig,
    "structured": StructuredConfig,
}


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One accepted key. `name` is what metrics and logs say; the secret is never shown.

    `weight` is its share of a busy engine beside those of other keys.
    """

    name: str
    secret: str = field(repr=False)
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The HTTP front end: where it listens, who may ask, and what a request may cost."""

    # Where it listens.
    host: str | None = option(None, "Address to listen on (default: every one).", group=ADDRESS)
    port: int = option(8000, "Port to listen on; 0: any free one.", group=ADDRESS)
    uds: str | None = option(
        None, "A Unix socket to listen on instead of host and port.", group=ADDRESS
    )
    root_path: str = option(
        "", "Path under which a proxy in front shows the server.", group=ADDRESS
    )
    ssl_keyfile: str | None = option(None, "TLS: the private key's file.", group=ADDRESS)
    ssl_certfile: str | None = option(None, "TLS: the certificate's file.", group=ADDRESS)
    ssl_ca_certs: str | None = option(
        None, "TLS: file of authorities that client certificates are checked with.", group=ADDRESS
    )
    ssl_cert_reqs: int = option(
        0, "TLS: client certificates: 0 none, 1 optional, 2 required.", group=ADDRESS
    )
    ssl_ciphers: str | None = option(None, "TLS: ciphers allowed.", group=ADDRESS)
    timeout_keep_alive: int = option(
        5, "Seconds that an idle connection is kept open.", group=ADDRESS
    )

    # Who may ask.
    api_keys: tuple[ApiKey, ...] = field(default=(), repr=False)  # empty: everybody
    protect_metrics: bool = option(False, "Ask for an API key at /metrics too.", group=ACCESS)
    allowed_origins: tuple[str, ...] = option(
        ("*",), "CORS: pages of these origins may ask.", group=ACCESS
    )
    allowed_methods: tuple[str, ...] = option(("*",), "CORS: methods allowed.", group=ACCESS)
    allowed_headers: tuple[str, ...] = option(("*",), "CORS: headers allowed.", group=ACCESS)
    allow_credentials: bool = option(False, "CORS: allow credentials.", group=ACCESS)
    disable_docs: bool = option(
        False, "No /docs, /redoc and /openapi.json.", name="disable_fastapi_docs", group=ACCESS
    )

    # What the model is called, and how conversations reach it.
    served_model_names: tuple[str, ...] = option(
        (),
        "Name of the model in the API; several may be given, the first is answered (default: the"
        " model as named).",
        name="served_model_name",
        group=CONVERSATIONS,
    )
    chat_template: str | None = option(
        None, "A chat template, or a file with one.", group=CONVERSATIONS
    )
    chat_template_content_format: Literal["auto", "string", "openai"] = option(
        "auto", "How message contents reach the template.", group=CONVERSATIONS
    )
    default_chat_template_kwargs: dict[str, Any] = option(
        {},
        "Variables every template gets, such as '{\"enable_thinking\": false}'.",
        group=CONVERSATIONS,
    )
    trust_request_chat_template: bool = option(
        False, "Let a request bring its own chat template.", group=CONVERSATIONS
    )
    response_role: str = option("assistant", "Role of the answers.", group=CONVERSATIONS)
    enable_auto_tool_choice: bool = option(
        False,
        "Tools with tool_choice auto even where the template is not known.",
        group=CONVERSATIONS,
    )
    tool_call_parser: str | None = option(
        None,
        "How the model writes tool calls (default: found from its chat template).",
        group=CONVERSATIONS,
    )
    reasoning_parser: str | None = option(
        None,
        "How the model marks its reasoning (default: found where it is certain).",
        group=CONVERSATIONS,
    )

    # What answers carry.
    enable_prompt_tokens_details: bool = option(
        False, "Say in usage how many prompt tokens came from the cache.", group=ANSWERS
    )
    enable_force_include_usage: bool = option(
        False, "Send usage with every streamed chunk.", group=ANSWERS
    )
    enable_request_id_headers: bool = option(
        False, "Answer with the request's X-Request-Id.", group=ANSWERS
    )
    return_tokens_as_token_ids: bool = option(
        False, "Write tokens of log-probabilities as token_id:N.", group=ANSWERS
    )
    sse_keep_alive_interval: float | None = option(
        None, "Seconds between comments in a stream while nothing comes.", group=ANSWERS
    )

    # Bounds, checked before a request costs anything.
    max_body_bytes: int = option(
        16 << 20, "Largest request body, such as 16MiB.", kind="size", group=LIMITS
    )
    max_prompts: int = option(1024, "Most prompts in one completion request.", group=LIMITS)
    max_sequences: int = option(
        16384, "Most sequences (n times the prompts) of one request.", group=LIMITS
    )
    max_stop_strings: int = option(4, "Most stop strings of one request.", group=LIMITS)
    max_stored_responses: int = option(
        1000, "Most responses kept for previous_response_id.", kind="count", group=LIMITS
    )
    max_stored_bytes: int = option(
        64 << 20, "Most memory for kept responses, such as 64MiB.", kind="size", group=LIMITS
    )
    max_queue: int | None = option(
        None,
        "Most requests waiting for the engine; more are answered 429 (default: no limit).",
        also=("max_num_queued_reqs",),
        kind="count",
        group=LIMITS,
    )
    max_queue_tokens: int | None = option(
        None,
        "Most prompt tokens waiting for the engine; more are answered 429.",
        also=("max_num_queued_tokens",),
        kind="count",
        group=LIMITS,
    )
    max_concurrent_per_key: int | None = option(
        None, "Most unfinished requests of one API key.", kind="count", group=LIMITS
    )
    requests_per_minute: int | None = option(
        None, "Most requests of one API key in a minute.", kind="count", group=LIMITS
    )
    tokens_per_minute: int | None = option(
        None,
        "Most tokens, of prompts and answers, of one API key in a minute.",
        kind="count",
        group=LIMITS,
    )
    request_timeout: float | None = option(
        None, "Seconds a request may take; its field timeout may ask for less.", group=LIMITS
    )

    # When something is wrong, and when it is over.
    stall_timeout: float = option(
        120.0,
        "Seconds without a step, with work pending, until the engine is restarted.",
        group=RUNNING,
    )
    shutdown_timeout: float = option(
        30.0, "Seconds that running requests get to finish on SIGTERM.", group=RUNNING
    )
    uvicorn_log_level: Literal["critical", "error", "warning", "info", "debug", "trace"] = option(
        "info", "What the HTTP server itself logs.", group=RUNNING
    )
    access_log: bool = option(
        False,
        "Log a line for every HTTP request.",
        name="uvicorn_access_log",
        opposites=("disable_uvicorn_access_log",),
        group=RUNNING,
    )

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port must be in [0, 65535], got {self.port!r}")
        names = [key.name for key in self.api_keys]
        if len(set(names)) < len(names):
            raise ConfigError(f"api key names must differ, got {', '.join(names)}")
        if any(not key.secret for key in self.api_keys):
            raise ConfigError("an api key is empty; leave it out or give it a value")
        for name in _POSITIVE:
            _positive(name, getattr(self, name))
        for name in ("stall_timeout", "request_timeout", "sse_keep_alive_interval"):
            seconds = getattr(self, name)
            if seconds is not None and not seconds > 0:
                raise ConfigError(f"{name} must be a positive number of seconds, got {seconds!r}")
        if not self.shutdown_timeout >= 0:
            raise ConfigError(f"shutdown_timeout must be at least 0, got {self.shutdown_timeout!r}")
        if self.max_queue is not None and self.max_queue < 0:
            raise ConfigError(f"max_queue must be at least 0, got {self.max_queue!r}")


@dataclass(frozen=True, slots=True)
class ObservabilityConfig:
    """What a running server says about itself."""

    metrics_prefix: str = option("quire", "What metric names begin with; vllm for its dashboards.")
    enable_log_requests: bool = option(
        False, "Log a line for every request.", opposites=("disable_log_requests",)
    )
    log_format: Literal["text", "json"] = option("text", "How log lines are written.")
    log_stats: bool = option(
        True,
        "Log a line every ten seconds under load.",
        opposites=("disable_log_stats",),
    )
    otlp_traces_endpoint: str | None = option(
        None, "Where OpenTelemetry traces are sent (needs the otel extra)."
    )
    otlp_traces_protocol: Literal["grpc", "http/protobuf"] = option("grpc", "How traces are sent.")


_POSITIVE = (
    "max_body_bytes",
    "max_prompts",
    "max_sequences",
    "max_stop_strings",
    "max_queue_tokens",
    "max_concurrent_per_key",
    "requests_per_minute",
    "tokens_per_minute",
)

# vLLM's keyword -> where it lives here, where the names differ.
_ALIASES: dict[str, str] = {
    word: name
    for section in SECTIONS.values()
    for word, name in spellings(options_of(section)).items()
    if word != name
}


def engine_config(**options: Any) -> EngineConfig:
    """Build the tree from flat keywords (vLLM's names, and ours).

    Raises:
        ConfigError: an unknown keyword (naming the nearest), or a value out of range.
        NotYetSupportedError: a keyword whose feature does not exist yet.
    """
    sections: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    home = option_sections()
    for keyword, value in options.items():
        if keyword in ENGINE_NOT_YET:
            if not asks_for_nothing(value, ENGINE_NOT_YET[keyword]):
                raise NotYetSupportedError(
                    f"{keyword}={value!r} is not supported yet; leave it out"
                )
            continue
        if keyword in NO_EFFECT:
            continue
        name = _ALIASES.get(keyword, keyword)
        if name not in home:
            known = sorted({*home, *_ALIASES, *ENGINE_NOT_YET, *NO_EFFECT})
            raise ConfigError(f"unknown option '{keyword}'{nearest(keyword, known)}")
        sections[home[name]][name] = value
    config = EngineConfig(
        ModelConfig(**sections["model"]),
        CacheConfig(**{k: v for k, v in sections["cache"].items() if v is not None}),
        SchedulerConfig(**sections["scheduler"]),
        DeviceConfig(**sections["device"]),
        StructuredConfig(**sections["structured"]),
    )
    _validate(config)
    return config


def option_sections() -> dict[str, str]:
    """Option name -> the section of `EngineConfig` it belongs to."""
    return {f.name: section for section, cls in SECTIONS.items() for f in fields(cls)}


def _validate(config: EngineConfig) -> None:
    model, cache, scheduler = config.model, config.cache, config.scheduler
    _choice("dtype", model.dtype, DTYPES)
    _choice("load_format", model.load_format, LOAD_FORMATS)
    _choice("tokenizer_mode", model.tokenizer_mode, ("auto", "slow"))
    _choice("pooling", model.pooling, POOLINGS)
    _choice("model_impl", model.model_impl, ("auto", "quire", "transformers"))
    _choice("scheduling_policy", scheduler.policy, ("fcfs", "priority"))
    _positive("max_model_len", model.max_model_len)
    if model.max_logprobs != -1:
        _positive("max_logprobs", model.max_logprobs)
    _positive("max_num_seqs", scheduler.max_num_seqs)
    _positive("max_num_batched_tokens", scheduler.max_num_batched_tokens)
    _positive("num_gpu_blocks_override", cache.num_pages)
    _positive("kv_cache_memory_bytes", cache.kv_cache_memory_bytes)
    if not config.structured.grammar_timeout > 0:
        raise ConfigError(
            f"grammar_timeout must be a positive number of seconds, "
            f"got {config.structured.grammar_timeout!r}"
        )
    if cache.page_size < 1 or cache.page_size > 256 or cache.page_size & (cache.page_size - 1):
        raise ConfigError(f"block_size must be a power of two in [1, 256], got {cache.page_size}")
    for name, value in (
        ("gpu_memory_utilization", cache.gpu_memory_utilization),
        ("cpu_memory_fraction", cache.cpu_memory_fraction),
    ):
        if not 0.0 < value <= 1.0:
            raise ConfigError(f"{name} must be in (0, 1], got {value!r}")
    if config.device.tensor_parallel_size != 1:
        raise NotYetSupportedError(
            f"tensor_parallel_size={config.device.tensor_parallel_size} is not supported yet; use 1"
        )


def _choice(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(
            f"{name} must be one of {', '.join(known)}, got {value!r}{nearest(str(value), known)}"
        )


def _positive(name: str, value: int | None) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ConfigError(f"{name} must be a positive integer, got {value!r}")
