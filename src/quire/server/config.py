"""What can be chosen about the HTTP front end. Imports nothing heavy: the command line reads it."""

from dataclasses import dataclass, field
from typing import Any, Literal

from quire.core.errors import ConfigError
from quire.core.option import check, option

# Groups of the options in help.
ADDRESS, ACCESS, CONVERSATIONS = "Address", "Access", "Conversations"
ANSWERS, LIMITS, RUNNING = "Answers", "Limits", "Running and stopping"


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
    """Where it listens, who may ask, and what a request may cost."""

    # Where it listens.
    host: str | None = option(None, "Address to listen on (default: every one).", group=ADDRESS)
    port: int = option(
        8000, "Port to listen on; 0: any free one.", group=ADDRESS, low=0, high=65535
    )
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
        0,
        "TLS: client certificates: 0 none, 1 optional, 2 required.",
        group=ADDRESS,
        low=0,
        high=2,
    )
    ssl_ciphers: str | None = option(None, "TLS: ciphers allowed.", group=ADDRESS)
    timeout_keep_alive: int = option(
        5, "Seconds that an idle connection is kept open.", group=ADDRESS, low=0
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
        "Names of the model in the API; the first is answered (default: the model as named).",
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
        None, "Seconds between comments in a stream while nothing comes.", group=ANSWERS, above=0
    )

    # Bounds, checked before a request costs anything.
    max_body_bytes: int = option(
        16 << 20, "Largest request body, such as 16MiB.", kind="size", group=LIMITS, low=1
    )
    max_prompts: int = option(1024, "Most prompts in one completion request.", group=LIMITS, low=1)
    max_sequences: int = option(
        16384, "Most sequences (n times the prompts) of one request.", group=LIMITS, low=1
    )
    max_stop_strings: int = option(4, "Most stop strings of one request.", group=LIMITS, low=1)
    max_stored_responses: int = option(
        1000, "Most responses kept for previous_response_id.", kind="count", group=LIMITS, low=0
    )
    max_stored_bytes: int = option(
        64 << 20, "Most memory for kept responses, such as 64MiB.", kind="size", group=LIMITS, low=0
    )
    max_queue: int | None = option(
        None,
        "Most requests waiting for the engine; more are answered 429 (default: no limit).",
        also=("max_num_queued_reqs",),
        kind="count",
        group=LIMITS,
        low=0,
    )
    max_queue_tokens: int | None = option(
        None,
        "Most prompt tokens waiting for the engine; more are answered 429.",
        also=("max_num_queued_tokens",),
        kind="count",
        group=LIMITS,
        low=1,
    )
    max_concurrent_per_key: int | None = option(
        None, "Most unfinished requests of one API key.", kind="count", group=LIMITS, low=1
    )
    requests_per_minute: int | None = option(
        None, "Most requests of one API key in a minute.", kind="count", group=LIMITS, low=1
    )
    tokens_per_minute: int | None = option(
        None,
        "Most tokens, of prompts and answers, of one API key in a minute.",
        kind="count",
        group=LIMITS,
        low=1,
    )
    request_timeout: float | None = option(
        None,
        "Seconds a request may take; its field timeout may ask for less.",
        group=LIMITS,
        above=0,
    )

    # When something is wrong, and when it is over.
    stall_timeout: float = option(
        120.0,
        "Seconds without a step, with work pending, until the engine is restarted.",
        group=RUNNING,
        above=0,
    )
    shutdown_timeout: float = option(
        30.0, "Seconds that running requests get to finish on SIGTERM.", group=RUNNING, low=0
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
        check(self)
        names = [key.name for key in self.api_keys]
        if len(set(names)) < len(names):
            raise ConfigError(f"api key names must differ, got {', '.join(names)}")
        if any(not key.secret for key in self.api_keys):
            raise ConfigError("an api key is empty; leave it out or give it a value")
