"""Options that several commands share: the engine's (one for each field of `EngineConfig`) and
the sampling ones. Defaults are not repeated here: an option that is not given is not passed on.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from quire.cli.flags import AUTOMATIC, items_of
from quire.cli.help import GroupedCommand
from quire.core.config import BOXED_MODEL, SECTIONS, engine_config
from quire.core.errors import ConfigError
from quire.core.keywords import ENGINE_NOT_YET
from quire.core.option import Kind, Option, options_of
from quire.core.sampling_params import SamplingParams

Command = TypeVar("Command", bound=Callable[..., Any])

# MODEL is an argument, and a command line without a tokenizer has nothing to say.
_NOT_FLAGS = ("model", "skip_tokenizer_init")

_TITLES = {
    "model": "Model",
    "cache": "KV cache",
    "scheduler": "Scheduler",
    "device": "Devices",
    "structured": "Structured outputs",
}

ENGINE_GROUPS: dict[str, list[Option]] = {
    _TITLES[name]: [o for o in options_of(section, _TITLES[name]) if o.field not in _NOT_FLAGS]
    for name, section in SECTIONS.items()
}

_SAMPLING = "Sampling"
_SAMPLING_FIELDS: tuple[tuple[str, Kind, str], ...] = (
    ("temperature", "float", "Randomness; 0 takes the likeliest token."),
    ("top_p", "float", "Sample from the likeliest tokens that reach this probability."),
    ("top_k", "int", "Sample from that many likeliest tokens."),
    ("min_p", "float", "Drop tokens below this fraction of the likeliest one's probability."),
    ("repetition_penalty", "float", "Above 1 discourages tokens that were there before."),
    ("max_tokens", "int", "Most tokens to generate."),
    ("min_tokens", "int", "Fewest tokens to generate."),
    ("stop", "list", "End the text here; may be repeated."),
)
SAMPLING_OPTIONS: tuple[Option, ...] = tuple(
    Option(name, name, text, kind, None, _SAMPLING) for name, kind, text in _SAMPLING_FIELDS
)


def model_argument(command: Command) -> Command:
    """MODEL, the model in the box unless given."""
    return click.argument("model", default=BOXED_MODEL, metavar="[MODEL]")(command)


def sampling_command(name: str, short_help: str) -> Callable[[Callable[..., Any]], click.Command]:
    """A command that loads a model and samples from it: engine and sampling options."""
    groups = {_SAMPLING: list(SAMPLING_OPTIONS), **ENGINE_GROUPS}
    return click.command(
        name=name,
        short_help=short_help,
        cls=GroupedCommand,
        groups=groups,
        refused=ENGINE_NOT_YET,
    )


def given_options(given: dict[str, Any], options: Iterable[Option]) -> dict[str, Any]:
    """What was given of these options, by their names."""
    values: dict[str, Any] = {}
    for option in options:
        value = given.get(option.name)
        if value is None or value == ():
            continue
        if option.kind == "list":
            value = items_of(value)
        values[option.name] = None if value is AUTOMATIC else value
    return values


def split_options(given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(what `LLM` takes, what `SamplingParams` takes) out of a command's keywords.

    Raises:
        QuireError: a value is out of range; better now than after loading a model.
    """
    engine = given_options(given, (o for group in ENGINE_GROUPS.values() for o in group))
    sampling = given_options(given, SAMPLING_OPTIONS)
    if "stop" in sampling:
        sampling["stop"] = list(sampling["stop"])
    rest = {k for k, v in given.items() if v not in (None, ())} - engine.keys() - sampling.keys()
    if rest:
        raise ConfigError(f"options without a place: {', '.join(sorted(rest))}")
    engine_config(**engine)
    SamplingParams(**{"max_tokens": None, **sampling})
    return engine, sampling
