"""The options of the commands, in the groups of their help: one for each field of the config
dataclasses, and the sampling ones. Defaults are not repeated here: an option that is not given
is not passed on.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from quire.core.config import SECTIONS
from quire.core.errors import ConfigError
from quire.core.option import Kind, Option, options_of
from quire.metrics.config import ObservabilityConfig
from quire.server.config import ACCESS, ServerConfig

Command = TypeVar("Command", bound=Callable[..., Any])
Groups = dict[str, list[Option]]

OBSERVABILITY = "Metrics and logs"
_SAMPLING = "Sampling"
_TITLES = {
    "model": "Model",
    "cache": "KV cache",
    "scheduler": "Scheduler",
    "device": "Devices",
    "structured": "Structured outputs",
}

ENGINE_GROUPS: Groups = {
    _TITLES[name]: [o for o in options_of(section) if o.field != "skip_tokenizer_init"]
    for name, section in SECTIONS.items()
}
ENGINE_OPTIONS = [option for group in ENGINE_GROUPS.values() for option in group]

_SAMPLING_FIELDS: tuple[tuple[str, Kind, str], ...] = (
    ("temperature", "float", "Randomness; 0 takes the likeliest token."),
    ("top_p", "float", "Sample from the likeliest tokens that reach this probability."),
    ("top_k", "int", "Sample from that many likeliest tokens."),
    ("min_p", "float", "Drop tokens below this fraction of the likeliest one's probability."),
    ("repetition_penalty", "float", "Above 1 discourages tokens that were there before."),
    ("max_tokens", "int", "Most tokens to generate."),
    ("min_tokens", "int", "Fewest tokens to generate."),
    ("stop", "list", "End the text at any of these."),
)
SAMPLING_OPTIONS = [Option(name, name, text, kind) for name, kind, text in _SAMPLING_FIELDS]
SAMPLING_GROUPS: Groups = {_SAMPLING: SAMPLING_OPTIONS, **ENGINE_GROUPS}

# They become `ServerConfig.api_keys`.
_KEY_OPTIONS = [
    Option(
        "api_key",
        "api_key",
        "Keys that requests must bring (default: everybody may ask). Others on this machine can"
        " see them here: prefer the file or QUIRE_API_KEY.",
        "list",
        secret=True,
    ),
    Option(
        "api_key_file",
        "api_key_file",
        "File of keys, a line each: KEY, NAME:KEY or NAME:KEY:WEIGHT. The name appears in metrics,"
        " the weight is its share of a busy server.",
        "str",
    ),
]


def serve_groups() -> Groups:
    """Everything `quire serve` can be told."""
    groups: Groups = {}
    for option in options_of(ServerConfig):
        groups.setdefault(option.group, []).append(option)
    groups[ACCESS] = [*_KEY_OPTIONS, *groups[ACCESS]]
    groups[OBSERVABILITY] = options_of(ObservabilityConfig)
    return groups | ENGINE_GROUPS


def model_argument(command: Command) -> Command:
    """[MODEL], which may be given as --model too."""
    return click.argument("model_argument", required=False, metavar="[MODEL]")(command)


def name_model(given: dict[str, Any]) -> None:
    """Make MODEL the option that it stands for.

    Raises:
        ConfigError: it was given both ways, and they differ.
    """
    argument, model = given.pop("model_argument"), given["model"]
    if argument and model and argument != model:
        raise ConfigError(f"two models: MODEL is {argument!r} and --model {model!r}; give one")
    given["model"] = argument or model
