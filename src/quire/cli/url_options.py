"""--url, --api-key: the choice between a model loaded here and a running server."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from quire.cli.flags import dashes
from quire.cli.options import split_options
from quire.core import env

if TYPE_CHECKING:
    from quire.cli.answerer import Answerer

Command = TypeVar("Command", bound=Callable[..., Any])


def url_options(command: Command) -> Command:
    """Add --url and --api-key."""
    command = click.option(
        "--api-key", help="The server's API key, with --url (default: QUIRE_API_KEY)."
    )(command)
    return click.option(
        "--url", help="Ask a running server, such as http://localhost:8000, and load nothing."
    )(command)


@contextlib.contextmanager
def open_answerer(
    given: dict[str, Any], *, whole_context: bool = False, chat_template: str | None = None
) -> Iterator["Answerer"]:
    """The answerer that a command's options ask for.

    Args:
        given: model, url, api_key, and the engine and sampling options.

    Raises:
        QuireError: the model cannot be loaded, or the server not be reached.
        UsageError: an option of the one was given to the other.
    """
    context = click.get_current_context()
    options = dict(given)
    model, url, key = (options.pop(name) for name in ("model", "url", "api_key"))
    engine, sampling = split_options(options)
    if url is None:
        if key is not None:
            raise click.UsageError("--api-key needs --url", context)
        from quire.cli.answerer import LocalAnswerer
        from quire.llm import LLM

        with LLM(model, **engine) as llm:
            yield LocalAnswerer(
                llm, sampling, whole_context=whole_context, chat_template=chat_template
            )
        return
    useless = [*map(dashes, engine), *(["--chat-template"] if chat_template else [])]
    if useless:
        raise click.UsageError(
            f"{', '.join(useless)}: not with --url; give it to the server", context
        )
    from quire.cli.client import ServedAnswerer

    named = context.get_parameter_source("model") is not ParameterSource.DEFAULT
    own_key = (env.option("api_key") or "").split(",")[0]
    served = ServedAnswerer(url, key or own_key or None, model if named else None, sampling)
    try:
        yield served
    finally:
        served.close()
