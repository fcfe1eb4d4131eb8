"""The options of `quire serve`, from four places: command line, environment, file, default.

The first of these that sets an option wins. All of them use the same names and the same
conversions, made from the config dataclasses. Reads no environment itself (`core.env` does).
"""

import difflib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quire.cli.flags import AUTOMATIC, items_of, read_value
from quire.cli.options import ENGINE_GROUPS
from quire.core import env
from quire.core.config import (
    ACCESS,
    ApiKey,
    EngineConfig,
    ModelConfig,
    ObservabilityConfig,
    ServerConfig,
    engine_config,
)
from quire.core.errors import ConfigError, NotYetSupportedError, nearest
from quire.core.keywords import ENGINE_NOT_YET, NO_EFFECT, SERVER_NOT_YET, asks_for_nothing
from quire.core.option import Option, options_of

logger = logging.getLogger("quire")

OBSERVABILITY = "Metrics and logs"

# They become `ServerConfig.api_keys`.
KEY_OPTIONS: tuple[Option, ...] = (
    Option(
        "api_key",
        "api_key",
        "A key that requests must bring; several may be given (default: everybody may ask). Others"
        " on this machine can see it here: prefer the file or QUIRE_API_KEY.",
        "list",
        (),
        ACCESS,
        secret=True,
    ),
    Option(
        "api_key_file",
        "api_key_file",
        "File of keys, a line each: KEY, NAME:KEY or NAME:KEY:WEIGHT. The name appears in metrics,"
        " the weight is its share of a busy server.",
        "str",
        None,
        ACCESS,
    ),
)
MODEL_OPTIONS: tuple[Option, ...] = tuple(
    o for o in options_of(ModelConfig, "Model") if o.field == "model"
)

_MISSPELT = 0.85  # how alike a variable must be to an option's to be taken for a slip

REFUSED: dict[str, tuple[object, ...]] = {**ENGINE_NOT_YET, **SERVER_NOT_YET}


def serve_groups() -> dict[str, list[Option]]:
    """Title -> options, in the order of help."""
    groups: dict[str, list[Option]] = {}
    for option in options_of(ServerConfig):
        groups.setdefault(option.group, []).append(option)
    groups[ACCESS] = [*KEY_OPTIONS, *groups[ACCESS]]
    groups[OBSERVABILITY] = options_of(ObservabilityConfig, OBSERVABILITY)
    for title, options in ENGINE_GROUPS.items():
        groups[title] = [*MODEL_OPTIONS, *options] if title == "Model" else list(options)
    return groups


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
    groups: Mapping[str, Sequence[Option]] | None = None,
) -> ServeOptions:
    """Put the four places together.

    Args:
        given: the command line's options by name, None where not given.
        config_file: a YAML file of options.
        variable: the environment's value of an option.

    Raises:
        ConfigError: an unknown name or a value out of range, with the place it comes from.
    """
    options = {o.name: o for group in (groups or serve_groups()).values() for o in group}
    values = _from_environment(options, variable)
    if config_file is not None:
        values = {**_from_file(options, Path(config_file)), **values}
    for name, value in given.items():
        if value is not None and value != ():
            values[name] = items_of(value) if options[name].kind == "list" else value
    values = {name: None if v is AUTOMATIC else v for name, v in values.items()}
    keys = api_keys(values.pop("api_key", ()), values.pop("api_key_file", None))
    server = {o.name: o.field for o in options_of(ServerConfig)}
    observing = {o.name: o.field for o in options_of(ObservabilityConfig)}
    rest = values.keys() - server.keys() - observing.keys()
    return ServeOptions(
        engine_config(**{name: values[name] for name in rest}),
        ServerConfig(**_fields(values, server), api_keys=keys),
        ObservabilityConfig(**_fields(values, observing)),
    )


def _fields(values: Mapping[str, Any], fields: Mapping[str, str]) -> dict[str, Any]:
    return {field: values[name] for name, field in fields.items() if name in values}


def _from_environment(
    options: Mapping[str, Option], variable: Callable[[str], str | None]
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, option in options.items():
        text = variable(name)
        if text is not None:
            values[name] = read_value(option, text, env.option_variable(name))
    known = [env.option_variable(name) for name in options]
    for stray in env.unknown_options((*options, "config")):
        # Others may well be somebody else's, such as Kubernetes's QUIRE_SERVICE_HOST.
        for near in difflib.get_close_matches(stray, known, 1, _MISSPELT):
            logger.warning("%s is no option; did you mean %s?", stray, near)
    return values


def _from_file(options: Mapping[str, Option], path: Path) -> dict[str, Any]:
    spelled = {word: o for o in options.values() for word in (o.name, *o.also)}
    opposites = {word: o for o in options.values() for word in o.opposites}
    values: dict[str, Any] = {}
    for key, value in _read_yaml(path).items():
        name = str(key).lstrip("-").replace("-", "_")
        off = opposites.get(name) or (
            spelled.get(name.removeprefix("no_")) if name.startswith("no_") else None
        )
        if off is not None and off.kind == "switch" and name not in spelled:
            values[off.name] = not read_value(off, value, str(path))
        elif name in spelled:
            option = spelled[name]
            if value is not None:
                values[option.name] = read_value(option, value, str(path))
        elif name in REFUSED:
            if not asks_for_nothing(value, REFUSED[name]):
                raise NotYetSupportedError(f"{path}: {name} is not supported yet; leave it out")
        elif name not in NO_EFFECT:
            near = nearest(name, (*spelled, *opposites))
            raise ConfigError(f"{path}: no option '{key}'{near}")
    return values


def _read_yaml(path: Path) -> dict[Any, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"--config {path} cannot be read: {reason}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" (line {mark.line + 1})"
        raise ConfigError(f"--config {path} is not valid YAML{where}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"--config {path} must hold `option: value` lines")
    return content


def api_keys(words: Sequence[str], key_file: str | None) -> tuple[ApiKey, ...]:
    """The keys of the flags (or variable), then of the file. Messages never show one.

    Raises:
        ConfigError: the file cannot be read, or a line is not a key.
    """
    many = len(words) > 1 or key_file is not None
    keys = [
        ApiKey(f"key-{number}" if many else "key", word) for number, word in enumerate(words, 1)
    ]
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
    keys: list[ApiKey] = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, colon, rest = text.partition(":")
        secret, weight_colon, weight = rest.partition(":") if colon else (text, "", "")
        where = f"--api-key-file {path}: line {number}"
        if not secret.strip():
            raise ConfigError(f"{where} has no key; write NAME:KEY or NAME:KEY:WEIGHT")
        share = _weight(weight, where) if weight_colon else 1.0
        keys.append(ApiKey(name.strip() if colon else f"line-{number}", secret.strip(), share))
    if not keys:
        raise ConfigError(f"--api-key-file {path} holds no key; the server would be open")
    return keys


def _weight(text: str, where: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = 0.0
    if not 0.0 < weight < float("inf"):
        raise ConfigError(f"{where}: the weight must be a positive number") from None
    return weight


def default_model(argument: str | None, given: str | None) -> str | None:
    """MODEL or --model; None if neither.

    Raises:
        ConfigError: both, and they differ.
    """
    if argument and given and argument != given:
        raise ConfigError(f"two models: MODEL is {argument!r} and --model {given!r}; give one")
    return argument or given
