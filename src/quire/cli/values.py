"""Texts and YAML values as the values of options.

The same reading serves a flag, an environment variable and a line of a `--config` file.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from quire.core.errors import ConfigError
from quire.core.option import Kind, Option, fits, unfit

# vLLM's: small letters are decimal, capitals binary; KiB and kB say it outright.
_UNITS = {
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "K": 2**10,
    "M": 2**20,
    "G": 2**30,
    "T": 2**40,
}
_QUANTITY = re.compile(r"(-?[0-9]+(?:\.[0-9]+)?)\s*([kmgtKMGT]?)(i?[bB])?")
_SWITCH = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


# Stands for a value that is to be chosen (None), given on purpose: it beats a file's.
AUTOMATIC = object()


def dashes(name: str) -> str:
    """--max-model-len of max_model_len."""
    return "--" + name.replace("_", "-")


def read_value(option: Option, value: Any, where: str) -> Any:
    """A value that may be text, or the right type already.

    Raises:
        ConfigError: naming `where` it was given, what it must be and what it is.
    """
    if str(value).strip().lower() in option.automatic:
        return AUTOMATIC
    try:
        read = _FROM_TEXT[option.kind](_text(option, value))
    except (ValueError, LookupError, TypeError):
        raise ConfigError(unfit(option, where, value)) from None
    if not fits(option, read):
        raise ConfigError(unfit(option, where, value))
    return read


def _text(option: Option, value: Any) -> str:
    """A YAML value as it would be written on the command line."""
    for kind, written in (("switch", bool), ("json", dict)):
        if not isinstance(value, str) and isinstance(value, written) != (option.kind == kind):
            raise ValueError(value)
    return json.dumps(value) if isinstance(value, dict | list | tuple) else str(value)


def quantity(text: str) -> int:
    """8192, 8k (8000), 8K (8192), 1.5G, 2GiB, 2GB. Raises ValueError for anything else."""
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise ValueError(text)
    number, unit, suffix = match.groups()
    if suffix:  # GiB is binary, GB decimal, whatever the letter's case
        unit = unit.upper() if suffix[0] == "i" else unit.lower()
    whole = float(number) * _UNITS[unit] if unit else float(number)
    if whole != int(whole):
        raise ValueError(text)
    return int(whole) if unit else int(number)


def words(text: str) -> tuple[str, ...]:
    if text.lstrip().startswith("["):
        return tuple(str(item) for item in json.loads(text))
    return tuple(word.strip() for word in text.split(","))


def _object(text: str) -> Any:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(text)
    return value


_FROM_TEXT: dict[Kind, Callable[[str], Any]] = {
    "switch": lambda text: _SWITCH[text.strip().lower()],
    "int": int,
    "float": float,
    "str": str,
    "count": quantity,
    "size": quantity,
    "json": _object,
    "list": words,
}
