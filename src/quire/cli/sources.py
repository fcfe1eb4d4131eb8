"""An option's value from four places: command line, environment, `--config` file, default.

The first of these that sets an option wins; all of them know it by the same names. Reads no
environment itself (`core.env` does).
"""

import difflib
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from quire.cli.command import REFUSED
from quire.cli.values import AUTOMATIC, read_value
from quire.core import env
from quire.core.errors import ConfigError, NotYetSupportedError, nearest
from quire.core.keywords import NO_EFFECT, asks_for_nothing
from quire.core.option import Option

logger = logging.getLogger("quire")

_MISSPELT = 0.85  # how alike a variable must be to an option's to be taken for a slip


def collect(
    given: Mapping[str, Any],
    options: Iterable[Option],
    config_file: str | None = None,
    variable: Callable[[str], str | None] = env.option,
) -> dict[str, Any]:
    """Option name -> value, where some place sets it; None where it is to be chosen.

    Args:
        given: the command line's options by name, None where not given.

    Raises:
        ConfigError: an unknown name or a wrong value, with the place it comes from.
    """
    by_name = {o.name: o for o in options}
    values = {} if config_file is None else _from_file(by_name, Path(config_file))
    for name, option in by_name.items():
        text = variable(name)
        if text is not None:
            values[name] = read_value(option, text, env.option_variable(name))
        if given.get(name) is not None:
            values[name] = given[name]
    _warn_of_slips(by_name)
    return {name: None if value is AUTOMATIC else value for name, value in values.items()}


def _warn_of_slips(names: Iterable[str]) -> None:
    known = [env.option_variable(name) for name in names]
    for stray in env.unknown_options((*names, "config")):
        # Others may well be somebody else's, such as Kubernetes's QUIRE_SERVICE_HOST.
        for near in difflib.get_close_matches(stray, known, 1, _MISSPELT):
            logger.warning("%s is no option; did you mean %s?", stray, near)


def _from_file(options: Mapping[str, Option], path: Path) -> dict[str, Any]:
    spelled = {word: o for o in options.values() for word in (o.name, *o.also)}
    opposites = {word: o for o in options.values() for word in o.opposites}
    for word, o in spelled.items():
        if o.kind == "switch":
            opposites[f"no_{word}"] = o
    values: dict[str, Any] = {}
    for key, value in _read_yaml(path).items():
        name = str(key).lstrip("-").replace("-", "_")
        where = f"{path}: {name}"
        if name in spelled:
            option = spelled[name]
            if value is not None:
                values[option.name] = read_value(option, value, where)
        elif name in opposites:
            values[opposites[name].name] = not read_value(opposites[name], value, where)
        elif name in REFUSED:
            if not asks_for_nothing(value, REFUSED[name]):
                raise NotYetSupportedError(f"{where} is not supported yet; leave it out")
        elif name not in NO_EFFECT:
            raise ConfigError(f"{path}: no option '{key}'{nearest(name, (*spelled, *opposites))}")
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
    if content is not None and not isinstance(content, dict):
        raise ConfigError(f"--config {path} must hold `option: value` lines")
    return content or {}
