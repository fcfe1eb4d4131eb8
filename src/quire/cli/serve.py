"""`quire serve`: the OpenAI-compatible HTTP server.

Imports neither torch nor the server until everything it was told has been checked.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from quire.cli.command import GroupedCommand
from quire.cli.options import model_argument, name_model, serve_groups
from quire.cli.sources import collect
from quire.core import env
from quire.core.config import EngineConfig, engine_config
from quire.core.errors import ConfigError
from quire.core.option import options_of
from quire.metrics.config import ObservabilityConfig
from quire.server.config import ApiKey, ServerConfig

logger = logging.getLogger("quire")


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """Everything `quire serve` was told."""

    engine: EngineConfig
    server: ServerConfig
    observability: ObservabilityConfig


def read_options(
    given: Mapping[str, Any],
    config_file: str | None = None,
    variable: Callable[[str], str | None] = env.option,
) -> ServeOptions:
    """Command line, environment, file and defaults, put together as `sources.collect` does.

    Raises:
        ConfigError: an unknown name or a value out of range.
    """
    options = [option for group in serve_groups().values() for option in group]
    values = collect(given, options, config_file, variable)
    keys = api_keys(values.pop("api_key", ()), values.pop("api_key_file", None))

    def take(section: type) -> dict[str, Any]:
        names = {o.name: o.field for o in options_of(section) if o.name in values}
        taken = {field: values.pop(name) for name, field in names.items()}
        return {field: value for field, value in taken.items() if value is not None}

    server = ServerConfig(**take(ServerConfig), api_keys=keys)
    observability = ObservabilityConfig(**take(ObservabilityConfig))
    return ServeOptions(engine_config(**values), server, observability)


@click.command(
    name="serve",
    short_help="Serve a model over HTTP, as OpenAI does.",
    cls=GroupedCommand,
    groups=serve_groups(),
    epilog="Each option can also be set by a variable, QUIRE_ and its name in capitals"
    " (QUIRE_MAX_MODEL_LEN=8k), or in the --config file (max-model-len: 8k). The command line goes"
    " before the variable, the variable before the file. --help=kv shows what kv occurs in.",
)
@model_argument
@click.option("--config", metavar=" FILE", help="YAML file of options, a `name: value` line each.")
def command(config: str | None, **given: Any) -> None:
    """Serve MODEL over HTTP, as OpenAI does.

    It listens at once and answers /health with 503 until the model is loaded. SIGTERM lets
    running requests finish.

    \b
    quire serve
    quire serve Qwen/Qwen3-0.6B --port 8000 --max-model-len 8k
    quire serve --config serve.yaml --api-key-file keys
    """
    name_model(given)
    options = read_options(given, config or env.option("config"))

    from quire.core.logs import configure_logging
    from quire.metrics.setup import make_metrics
    from quire.server.run import run
    from quire.server.state import ServerState

    log_format = options.observability.log_format
    configure_logging(env.log_level(), log_format)
    names = options.server.served_model_names or (options.engine.model.model,)
    metrics = make_metrics(names[0], options.observability)
    state = ServerState(options.engine, options.server, metrics=metrics, log_format=log_format)
    run(state, _announce)


def _announce(address: str) -> None:
    """Say where it listens: to the user on standard output, before anything is loaded."""
    print(f"quire: listening on {address}", flush=True)
    if address.startswith("http"):
        what = "the page to open, and the API under"
        print(f"quire: {address}/ is {what} {address}/v1", flush=True)


def api_keys(words: Sequence[str], key_file: str | None) -> tuple[ApiKey, ...]:
    """Those given as they are, then those of the file.

    Raises:
        ConfigError: the file cannot be read, a line is not a key, or two keys are the same.
    """
    many = len(words) > 1 or key_file is not None
    keys = [ApiKey(f"key-{i}" if many else "key", word) for i, word in enumerate(words, 1)]
    if key_file is not None:
        keys += _read_key_file(Path(key_file))
    first: dict[str, str] = {}
    for key in keys:
        twin = first.setdefault(key.secret, key.name)
        if twin != key.name:
            raise ConfigError(f"API keys {twin} and {key.name} are the same; give each its own")
    return tuple(keys)


def _read_key_file(path: Path) -> list[ApiKey]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"--api-key-file {path} cannot be read: {reason}") from None
    if path.stat().st_mode & 0o044:
        logger.warning("%s can be read by other users of this machine; chmod 600 it", path)
    keys = [
        _read_key(line.strip(), number, f"--api-key-file {path}: line {number}")
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.strip().startswith("#")
    ]
    if not keys:
        raise ConfigError(f"--api-key-file {path} holds no key; the server would be open")
    return keys


def _read_key(text: str, number: int, where: str) -> ApiKey:
    """KEY, NAME:KEY or NAME:KEY:WEIGHT."""
    name, *rest = (part.strip() for part in text.split(":", 2))
    if not rest:
        return ApiKey(f"line-{number}", name)
    if not rest[0]:
        raise ConfigError(f"{where} has no key; write NAME:KEY or NAME:KEY:WEIGHT")
    try:
        weight = float(rest[1]) if len(rest) > 1 else 1.0
    except ValueError:
        weight = 0.0
    if not 0.0 < weight < float("inf"):
        raise ConfigError(f"{where}: the weight must be a positive number")
    return ApiKey(name, rest[0], weight)
