"""`quire serve`: the OpenAI-compatible HTTP server.

Imports neither torch nor the server until everything it was told has been checked.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import click

from quire.cli.api_keys import api_keys
from quire.cli.command import GroupedCommand
from quire.cli.options import model_argument, name_model, serve_groups
from quire.cli.sources import collect
from quire.core import env
from quire.core.config import EngineConfig, engine_config
from quire.core.option import options_of
from quire.metrics.config import ObservabilityConfig
from quire.server.config import ServerConfig


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
