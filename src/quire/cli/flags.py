"""Options of the configuration as command line flags, and texts as their values.

The same conversion serves a flag, an environment variable and a text in a `--config` file.
"""

import json
import re
from typing import Any

import click

from quire.core.errors import ConfigError
from quire.core.option import Option

# vLLM's: small letters are decimal, capitals binary; KiB and kB say it outright.
_DECIMAL = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_UNITS = _DECIMAL | _BINARY
_NUMBER = re.compile(r"(-?[0-9]+(?:\.[0-9]+)?)\s*([kmgtKMGT]?)(i?[bB])?")


class Automatic:
    """Stands for a value that is to be chosen (None), given on purpose: it beats a file's."""


AUTOMATIC = Automatic()


class Number(click.ParamType):
    """A whole number: 8192, 8k (8000), 8K (8192), 1.5G, 2GiB, 2GB."""

    def __init__(self, name: str, example: str) -> None:
        self.name = name
        self._example = example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        match = _NUMBER.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"{value!r} is not {self._example}")
        number, unit, suffix = match.groups()
        if suffix:  # GiB is binary, GB decimal, whatever the letter's case
            unit = unit.upper() if suffix[0] == "i" else unit.lower()
        whole = float(number) * _UNITS.get(unit, 1)
        if whole != int(whole):
            self.fail(f"{value!r} is not a whole number")
        return int(number) if not unit else int(whole)


class Json(click.ParamType):
    """A JSON object."""

    name = "json"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, Any]:
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except json.JSONDecodeError as error:
                self.fail(f"{value!r} is not JSON ({error.msg})")
        if not isinstance(value, dict):
            self.fail(f"{value!r} is not a JSON object such as '{{\"key\": 1}}'")
        return value


COUNT = Number("number", "a number such as 8192 or 8k")
SIZE = Number("bytes", "a number of bytes such as 2GiB or 1500000000")
_SWITCH_WORDS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


class _Auto(click.ParamType):
    """Another type, or one of the words that leave the value to be chosen."""

    def __init__(self, inner: click.ParamType, words: tuple[str, ...]) -> None:
        self.name = inner.name
        self._inner, self._words = inner, words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if str(value).strip().lower() in self._words:
            return AUTOMATIC
        return self._inner.convert(value, param, ctx)


def type_of(option: Option) -> click.ParamType:
    """How its value is read; of a list, one of its items."""
    kinds: dict[str, click.ParamType] = {
        "int": click.INT,
        "float": click.FLOAT,
        "count": COUNT,
        "size": SIZE,
        "json": Json(),
    }
    if option.choices:
        return click.Choice(option.choices)
    kind = kinds.get(option.kind, click.STRING)
    return _Auto(kind, option.automatic) if option.automatic else kind


def flag_of(option: Option) -> click.Option:
    """The flag: --name VALUE, or --name/--no-name; None unless given."""
    names = (option.name, *option.also)
    declarations = [option.name]
    for name in names:
        flag = dashes(name)
        declarations.append(f"{flag}/--no-{flag[2:]}" if option.kind == "switch" else flag)
    declarations += [f" /{dashes(name)}" for name in option.opposites]
    text = option.help + _default(option)
    if option.kind == "switch":
        return click.Option(declarations, is_flag=True, default=None, help=text)
    multiple = option.kind == "list"
    return click.Option(
        declarations, type=type_of(option), multiple=multiple, default=None, help=text
    )


def _default(option: Option) -> str:
    """The default as help shows it, where there is one to show."""
    value = option.default
    if option.kind == "switch":
        return " [on]" if value else ""
    if option.kind == "list":
        value = " ".join(value or ())
    return "" if value in (None, "", {}) else f" [{value}]"


def dashes(name: str) -> str:
    """--max-model-len of max_model_len; short ones (tp) get one dash."""
    return ("-" if len(name) <= 2 else "--") + name.replace("_", "-")


def items_of(values: tuple[str, ...]) -> tuple[str, ...]:
    """A list option's items: words, or one JSON list as vLLM takes them."""
    if len(values) == 1 and values[0].lstrip().startswith("["):
        try:
            parsed = json.loads(values[0])
        except json.JSONDecodeError as error:
            raise ConfigError(f"{values[0]!r} is not a JSON list ({error.msg})") from None
        return tuple(str(item) for item in parsed)
    return values


def read_value(option: Option, value: Any, source: str) -> Any:
    """A value from a file or a variable, which may be text or the right type already.

    Raises:
        ConfigError: naming `source`, the option and the value.
    """
    where = f"{source}: {option.name}"
    if option.kind == "switch":
        return _switch(value, where)
    if option.kind == "list":
        if isinstance(value, str):
            value = items_of((value,)) if value.lstrip().startswith("[") else value.split(",")
        if isinstance(value, list | tuple) and all(isinstance(v, str | int) for v in value):
            return tuple(str(item).strip() for item in value)
        raise ConfigError(f"{where} must be a list of words, got {_shown(option, value)}")
    if isinstance(value, bool | list) or (isinstance(value, dict) and option.kind != "json"):
        raise ConfigError(f"{where} must be {_a(option)}, got {_shown(option, value)}")
    try:
        converted = type_of(option).convert(value, None, None)
    except click.UsageError as error:
        raise ConfigError(f"{where}: {error.message}") from None
    return converted if option.kind != "str" else str(converted)


def _switch(value: Any, where: str) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word not in _SWITCH_WORDS:
        raise ConfigError(f"{where} must be true or false, got {value!r}")
    return _SWITCH_WORDS[word]


def _a(option: Option) -> str:
    words = {"int": "a whole number", "float": "a number", "count": "a number such as 8k"}
    return words.get(option.kind, {"size": "a size such as 2GiB"}.get(option.kind, "a text"))


def _shown(option: Option, value: Any) -> str:
    return "another type" if option.secret else repr(value)
