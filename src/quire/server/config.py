"""What can be chosen about the HTTP front end. Imports nothing heavy: the command line reads it."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from quire.core.errors import ConfigError
from quire.core.option import check, option

# Groups of the options in help.
ADDRESS, ACCESS, CONVERSATIONS = "Address", "Access", "Conversations"
ANSWERS, LIMITS, RUNNING = "Answers", "Limits", "Running and stopping"

_address, _access = partial(option, group=ADDRESS), partial(option, group=ACCESS)
_conversations, _answers = partial(option, group=CONVERSATIONS), partial(option, group=ANSWERS)
_limits, _running = partial(option, group=LIMITS), partial(option, group=RUNNING)


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
    host: str | None = _address(None, "Address to listen on (default: every one).")
    port: int = _address(8000, "Port to listen on; 0: any free one.", low=0, high=65535)
    uds: str | None = _address(None, "A Unix socket to listen on instead of host and port.")
    root_path: str = _address("", "Path under which a proxy in front shows the server.")
    ssl_keyfile: str | None = _address(None, "TLS: the private key's file.")
    ssl_certfile: str | None = _address(None, "TLS: the certificate's file.")
    ssl_ca_certs: str | None = _address(
        None, "TLS: file of authorities that client certificates are checked with."
    )
    ssl_cert_reqs: int = _address(
        0, "TLS: client certificates: 0 none, 1 optional, 2 required.", low=0, high=2
    )
    ssl_ciphers: str | None = _address(None, "TLS: ciphers allowed.")
    timeout_keep_alive: int = _address(5, "Seconds that an idle connection is kept open.", low=0)

    # Who may ask.
    api_keys: tuple[ApiKey, ...] = field(default=(), repr=False)  # empty: everybody
    protect_metrics: bool = _access(False, "Ask for an API key at /metrics too.")
    allowed_origins: tuple[str, ...] = _access(("*",), "CORS: pages of these origins may ask.")
    allowed_methods: tuple[str, ...] = _access(("*",), "CORS: methods allowed.")
    allowed_headers: tuple[str, ...] = _access(("*",), "CORS: headers allowed.")
    allow_credentials: bool = _access(False, "CORS: allow credentials.")
    disable_docs: bool = _access(
        False, "No /docs, /redoc and /openapi.json.", name="disable_fastapi_docs"
    )

    # What the model is called, and how conversations reach it.
    served_model_names: tuple[str, ...] = _conversations(
        (),
        "Names of the model in the API; the first is answered (default: the model as named).",
        name="served_model_name",
    )
    chat_template: str | None = _conversations(None, "A chat template, or a file with one.")
    chat_template_content_format: Literal["auto", "string", "openai"] = _conversations(
        "auto", "How message contents reach the template."
    )
    default_chat_template_kwargs: dict[str, Any] = option(
        {},
        "Variables every template gets, such as '{\"enable_thinking\": false}'.",
        group=CONVERSATIONS,
    )
    trust_request_chat_template: bool = _conversations(
        False, "Let a request bring its own chat template."
    )
    response_role: str = _conversations("assistant", "Role of the answers.")
    enable_auto_tool_choice: bool = _conversations(
        False, "Tools with tool_choice auto even where the template is not known."
    )
    tool_call_parser: str | None = _conversations(
        None, "How the model writes tool calls (default: found from its chat template)."
    )
    reasoning_parser: str | None = _conversations(
        None, "How the model marks its reasoning (default: found where it is certain)."
    )

    # What answers carry.
    enable_prompt_tokens_details: bool = _answers(
        False, "Say in usage how many prompt tokens came from the cache."
    )
    enable_force_include_usage: bool = _answers(False, "Send usage with every streamed chunk.")
    enable_request_id_headers: bool = _answers(False, "Answer with the request's X-Request-Id.")
    return_tokens_as_token_ids: bool = _answers(
        False, "Write tokens of log-probabilities as token_id:N."
    )
    sse_keep_alive_interval: float | None = _answers(
        None, "Seconds between comments in a stream while nothing comes.", above=0
    )

    # Bounds, checked before a request costs anything.
    max_body_bytes: int = _limits(
        16 << 20, "Largest request body, such as 16MiB.", kind="size", low=1
    )
    max_prompts: int = _limits(1024, "Most prompts in one completion request.", low=1)
    max_sequences: int = _limits(
        16384, "Most sequences (n times the prompts) of one request.", low=1
    )
    max_stop_strings: int = _limits(4, "Most stop strings of one request.", low=1)
    max_stored_responses: int = _limits(
        1000, "Most responses kept for previous_response_id.", kind="count", low=0
    )
    max_stored_bytes: int = _limits(
        64 << 20, "Most memory for kept responses, such as 64MiB.", kind="size", low=0
    )
    max_queue: int | None = _limits(
        None,
        "Most requests waiting for the engine; more are answered 429 (default: no limit).",
        also=("max_num_queued_reqs",),
        kind="count",
        low=0,
    )
    max_queue_tokens: int | None = _limits(
        None,
        "Most prompt tokens waiting for the engine; more are answered 429.",
        also=("max_num_queued_tokens",),
        kind="count",
        low=1,
    )
    max_concurrent_per_key: int | None = _limits(
        None, "Most unfinished requests of one API key.", kind="count", low=1
    )
    requests_per_minute: int | None = _limits(
        None, "Most requests of one API key in a minute.", kind="count", low=1
    )
    tokens_per_minute: int | None = _limits(
        None,
        "Most tokens, of prompts and answers, of one API key in a minute.",
        kind="count",
        low=1,
    )
    request_timeout: float | None = _limits(
        None, "Seconds a request may take; its field timeout may ask for less.", above=0
    )

    # When something is wrong, and when it is over.
    stall_timeout: float = _running(
        120.0, "Seconds without a step, with work pending, until the engine is restarted.", above=0
    )
    shutdown_timeout: float = _running(
        30.0, "Seconds that running requests get to finish on SIGTERM.", low=0
    )
    uvicorn_log_level: Literal["critical", "error", "warning", "info", "debug", "trace"] = _running(
        "info", "What the HTTP server itself logs."
    )
    access_log: bool = _running(
        False,
        "Log a line for every HTTP request.",
        name="uvicorn_access_log",
        opposites=("disable_uvicorn_access_log",),
    )

    def __post_init__(self) -> None:
        check(self)
        names = [key.name for key in self.api_keys]
        if len(set(names)) < len(names):
            raise ConfigError(f"api key names must differ, got {', '.join(names)}")
        if any(not key.secret for key in self.api_keys):
            raise ConfigError("an api key is empty; leave it out or give it a value")
