"""Who answers `quire chat` and `quire complete`: a model loaded here, or a running server.

Both give an answer in pieces; what asks them does not know which it is. This file has the choice
and the model loaded here, `client.py` the server.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import click

from quire.cli.command import GroupedCommand
from quire.cli.options import (
    ENGINE_OPTIONS,
    SAMPLING_GROUPS,
    SAMPLING_OPTIONS,
    Command,
    model_argument,
    name_model,
)
from quire.cli.sources import collect
from quire.cli.values import dashes
from quire.core import env
from quire.core.config import engine_config
from quire.core.sampling_params import SamplingParams

if TYPE_CHECKING:
    from quire.engine.frontend_prompt import Prompt
    from quire.llm import LLM

Message = dict[str, str]


@dataclass(frozen=True, slots=True)
class Piece:
    """What was added to an answer. The last one says why it ended."""

    text: str
    num_tokens: int
    finish_reason: str | None = None
    error: str | None = None


class Answerer(Protocol):
    """Answers. Leaving an iteration early stops the work behind it."""

    model: str  # its name, for people

    def chat(self, messages: list[Message]) -> Iterator[Piece]:
        """The next turn of a conversation. Raises QuireError if it cannot be answered."""

    def complete(self, prompt: str) -> Iterator[Piece]:
        """A text's continuation. Raises QuireError if there is none."""


class LocalAnswerer:
    """A model in this process."""

    def __init__(self, llm: "LLM", params: SamplingParams, chat_template: str | None) -> None:
        self._llm = llm
        self._params = params
        self._template = chat_template
        self.model = llm.model_info.model

    def chat(self, messages: list[Message]) -> Iterator[Piece]:
        from quire.engine.frontend_prompt import Prompt
        from quire.text.chat import render_chat

        tokenizer = self._llm.tokenizer
        assert tokenizer is not None, "the command line has no skip_tokenizer_init"
        text = render_chat(tokenizer, messages, chat_template=self._template)
        return self._stream(Prompt(text, None, add_special_tokens=False))

    def complete(self, prompt: str) -> Iterator[Piece]:
        return self._stream(prompt)

    def _stream(self, prompt: "str | Prompt") -> Iterator[Piece]:
        for update in self._llm.stream(prompt, self._params):
            sequence = update.sequence
            yield Piece(update.text, len(update.token_ids), sequence.finish_reason, sequence.error)


def answering_command(name: str, short_help: str) -> Callable[[Callable[..., Any]], GroupedCommand]:
    """A command with what `open_answerer` wants to know."""

    def decorate(function: Callable[..., Any]) -> GroupedCommand:
        command: GroupedCommand = click.command(
            name=name, short_help=short_help, cls=GroupedCommand, groups=SAMPLING_GROUPS
        )(model_argument(url_options(function)))
        return command

    return decorate


def url_options(command: Command) -> Command:
    """The choice of a running server."""
    for option in (
        click.option("--model-name", help="The model's name at --url (default: its first)."),
        click.option(
            "--api-key", help="The server's API key, with --url (default: QUIRE_API_KEY)."
        ),
        click.option("--url", help="Ask a running server, such as http://localhost:8000."),
    ):
        command = option(command)
    return command


def client_key(given: str | None) -> str | None:
    """The API key to show to a server."""
    return given or (env.option("api_key") or "").split(",")[0] or None


def refuse_with_url(flags: list[str]) -> None:
    """Options of an engine say nothing to a running server."""
    if flags:
        raise click.UsageError(
            f"{', '.join(flags)}: not with --url; give it to the server",
            click.get_current_context(),
        )


@contextlib.contextmanager
def open_answerer(
    given: dict[str, Any], *, whole_context: bool = False, chat_template: str | None = None
) -> Iterator[Answerer]:
    """The answerer that a command's options ask for.

    Args:
        whole_context: without --max-tokens, answers may be as long as the context allows.

    Raises:
        QuireError: the model cannot be loaded, the server not be reached, or a value is wrong.
        UsageError: an option of the one was given to the other.
    """
    name_model(given)
    url, key, model_name = (given.pop(name) for name in ("url", "api_key", "model_name"))
    sampling: dict[str, Any] = {}
    for option in SAMPLING_OPTIONS:
        value = given.pop(option.name)
        if value is not None:
            sampling[option.name] = list(value) if option.kind == "list" else value
    SamplingParams(**{"max_tokens": None, **sampling})  # refuses before anything is loaded
    if url is not None:
        model = model_name or given.pop("model")
        refuse_with_url([dashes(name) for name, value in given.items() if value is not None])
        refuse_with_url(["--chat-template"] if chat_template else [])
        from quire.cli.client import ServedAnswerer

        with ServedAnswerer(url, client_key(key), model, sampling) as served:
            yield served
        return
    if key is not None or model_name is not None:
        raise click.UsageError("--api-key and --model-name need --url", click.get_current_context())
    engine = collect(given, ENGINE_OPTIONS)
    engine_config(**engine)  # refuses before torch is imported
    from quire import LLM

    with LLM(**{name: value for name, value in engine.items() if value is not None}) as llm:
        params = llm.get_default_sampling_params()
        if whole_context:
            params.max_tokens = None
        for name, value in sampling.items():
            setattr(params, name, value)
        params.validate()
        yield LocalAnswerer(llm, params, chat_template)
