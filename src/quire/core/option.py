"""What an option is, written beside the config field it sets: help, spellings, accepted values.

The command line, `--config` files, environment variables and `LLM(**kw)` all read it from
`dataclasses.fields`, so a field is described in one place. Knows nothing of command lines.
"""

from collections.abc import Iterable
from dataclasses import MISSING, dataclass, field, fields
from types import NoneType, UnionType
from typing import Any, Literal, TypedDict, Union, Unpack, get_args, get_origin, get_type_hints

from quire.core.errors import ConfigError, nearest

# How a value is written as text: "count" takes 8k, "size" takes 2GiB, "json" an object,
# "list" several words, "switch" has a --no- form.
Kind = Literal["switch", "int", "float", "str", "count", "size", "json", "list"]

_WORDS: dict[Kind, str] = {
    "switch": "true or false",
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "count": "a whole number",
    "size": "a whole number",
    "json": 'a JSON object such as {"key": 1}',
    "list": "a list of words",
}
_EXAMPLES: dict[Kind, str] = {"count": " such as 8k", "size": " such as 2GiB"}
_SCALARS: dict[type, Kind] = {bool: "switch", int: "int", float: "float", str: "str"}
_KEY = "option"


@dataclass(frozen=True, slots=True)
class Option:
    """One option.

    `name` is its first spelling (vLLM's, where there is one), `field` the config field.
    `opposites` are old spellings that mean the switch's --no- form. `automatic` are the texts
    that leave the value to be chosen (None). Numbers are in [low, high], and greater than `above`.
    """

    name: str
    field: str
    help: str
    kind: Kind
    default: Any = None
    group: str = ""
    also: tuple[str, ...] = ()
    opposites: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    automatic: tuple[str, ...] = ()
    secret: bool = False
    low: float | None = None
    high: float | None = None
    above: float | None = None


class _Facts(TypedDict, total=False):
    """What a field says about its option, where name and annotation do not."""

    name: str
    kind: Kind
    group: str
    also: tuple[str, ...]
    opposites: tuple[str, ...]
    choices: tuple[str, ...]
    automatic: tuple[str, ...]
    secret: bool
    low: float
    high: float
    above: float


def option(default: Any, help: str, **facts: Unpack[_Facts]) -> Any:
    """A dataclass field that is an option; a secret one is left out of `repr`."""
    metadata = {_KEY: {"help": help, **facts}}
    shown = not facts.get("secret", False)
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), repr=shown, metadata=metadata)
    return field(default=default, repr=shown, metadata=metadata)


def options_of(section: type) -> list[Option]:
    """The options among the fields of a config dataclass, in order."""
    hints = get_type_hints(section)
    found = []
    for f in fields(section):
        if _KEY not in f.metadata:
            continue
        facts = {"name": f.name, **f.metadata[_KEY]}
        inner = _without_none(hints[f.name])
        if get_origin(inner) is Literal:
            facts.setdefault("choices", get_args(inner))
            inner = str
        other: Kind = "list" if get_origin(inner) is tuple else "json"
        facts.setdefault("kind", _SCALARS.get(inner, other))
        default = f.default if f.default_factory is MISSING else f.default_factory()
        found.append(Option(field=f.name, default=default, **facts))
    return found


def spellings(options: Iterable[Option]) -> dict[str, str]:
    """Every keyword that sets a field -> the field's name."""
    return {word: o.field for o in options for word in (o.name, *o.also, o.field)}


def check(section: Any) -> None:
    """Hold a config dataclass's values against their options.

    Raises:
        ConfigError: naming the option, what it may be, and the value.
    """
    for o in options_of(type(section)):
        value = getattr(section, o.field)
        if not (value is None and o.default is None) and not fits(o, value):
            raise ConfigError(unfit(o, o.name, value))


def fits(o: Option, value: Any) -> bool:
    """Whether a value is one of the choices, or a number of the right kind in range."""
    if o.choices:
        return value in o.choices
    if o.kind not in ("int", "count", "size", "float"):
        return True
    number = int | float if o.kind == "float" else int
    return (
        isinstance(value, number)
        and not isinstance(value, bool)
        and (o.low is None or value >= o.low)
        and (o.high is None or value <= o.high)
        and (o.above is None or value > o.above)
    )


def unfit(o: Option, name: str, value: object) -> str:
    """What to say of a value that is not what it must be; a secret one is not repeated."""
    shown = "something else" if o.secret else repr(value)
    if o.choices:
        near = nearest(str(value), o.choices)
        return f"{name} must be one of {', '.join(o.choices)}, got {shown}{near}"
    wanted = _WORDS[o.kind]
    if o.high is not None:
        wanted += f" in {f'({o.above:g}' if o.low is None else f'[{o.low:g}'}, {o.high:g}]"
    elif o.low is not None:
        wanted += f" of at least {o.low:g}"
    elif o.above is not None:
        wanted += f" above {o.above:g}"
    wanted += _EXAMPLES.get(o.kind, "")
    return f"{name} must be {wanted}, got {shown}"


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, UnionType):
        inner = [a for a in get_args(annotation) if a is not NoneType]
        return inner[0] if len(inner) == 1 else annotation
    return annotation
