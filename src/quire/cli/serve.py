"""`quire serve`: the OpenAI-compatible HTTP server.

Imports neither torch nor the server until everything it was told has been checked.
"""

from typing import Any

import click

from quire.cli.help import GroupedCommand
from quire.cli.serve_options import REFUSED, ServeOptions, default_model, read_options, serve_groups
from quire.core import env
from quire.core.config import ServerConfig


@click.command(
    name="serve",
    short_help="Serve a model over HTTP, as OpenAI does.",
    cls=GroupedCommand,
    groups=serve_groups(),
    refused=REFUSED,
    epilog="Each option can also be set by a variable, QUIRE_ and its name in capitals"
    " (QUIRE_MAX_MODEL_LEN=8k), or in the --config file (max-model-len: 8k). The command line goes"
    " before the variable, the variable before the file. --help=kv shows what kv occurs in.",
)
@click.argument("model_argument", required=False, metavar="[MODEL]")
@click.option("--config", metavar=" FILE", help="YAML file of options, a `name: value` line each.")
def command(model_argument: str | None, config: str | None, **given: Any) -> None:
    """Serve MODEL over HTTP, as OpenAI does.

    It listens at once and answers /health with 503 until the model is loaded. SIGTERM lets
    running requests finish.

    \b
    quire serve
    quire serve Qwen/Qwen3-0.6B --port 8000 --max-model-len 8k
    quire serve --config serve.yaml --api-key-file keys
    """
    given["model"] = default_model(model_argument, given.get("model"))
    options = read_options(given, config or env.option("config"))
    serve(options)


def serve(options: ServeOptions) -> None:
    """Serve until a signal says to stop."""
    from quire.metrics.logs import configure_logging
    from quire.metrics.setup import make_metrics
    from quire.server.run import run

    configure_logging(env.log_level(), options.observability.log_format)
    names = options.server.served_model_names or (options.engine.model.model,)
    run(
        options.engine,
        options.server,
        metrics=make_metrics(names[0], options.observability),
        log_format=options.observability.log_format,
        on_listening=lambda address: announce(address, options.server),
    )


def announce(address: str, config: ServerConfig) -> None:
    """Say where it listens: to the user on standard output, before anything is loaded."""
    print(f"quire: listening on {address}", flush=True)
    if config.uds is None:
        what = "the page to open, and the API under"
        print(f"quire: {address}/ is {what} {address}/v1", flush=True)
