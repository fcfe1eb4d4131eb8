"""What an option is, written beside the config field it sets: help, spellings, accepted values.

The command line, `--config` files, environment variables and `LLM(**kw)` all read it from
`dataclasses.fields`, so a field is described in one place. Knows nothing of command lines.
"""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

# How a value is written as text: "count" takes 8k, "size" takes 2GiB, "json" an object,
# "list" may be given several times, "switch" has a --no- form.
Kind = Literal["switch", "int", "float", "str", "count", "size", "json", "list"]

_KEY = "option"
_SCALARS: dict[type, Kind] = {bool: "switch", int: "int", float: "float", str: "str"}


@dataclass(frozen=True, slots=True)
class Option:
    """One option.

    `name` is its first spelling (vLLM's, where there is one), `field` the config field.
    `opposites` are old spellings that mean the switch's --no- form. `automatic` are the texts
    that leave the value to be chosen (None).
    """

    name: str
    field: str
    help: str
    kind: Kind
    default: Any
    group: str
    also: tuple[str, ...] = ()
    opposites: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    automatic: tuple[str, ...] = ()
    secret: bool = False


def option(
    default: Any,
    help: str,
    *,
    name: str = "",
    kind: Kind | None = None,
    group: str = "",
    also: tuple[str, ...] = (),
    opposites: tuple[str, ...] = (),
    choices: tuple[str, ...] = (),
    automatic: tuple[str, ...] = (),
    secret: bool = False,
) -> Any:
    """A dataclass field that is an option; a secret one is left out of `repr`.

    Args:
        name: first spelling, where it is not the field's name.
        kind: how it is written, where the annotation does not say.
    """
    described = {
        "help": help,
        "name": name,
        "kind": kind,
        "group": group,
        "also": also,
        "opposites": opposites,
        "choices": choices,
        "automatic": automatic,
        "secret": secret,
    }
    metadata = {_KEY: described}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), repr=not secret, metadata=metadata)
    return field(default=default, repr=not secret, metadata=metadata)


def options_of(section: type, group: str = "") -> list[Option]:
    """The options among the fields of a config dataclass, in order."""
    return [_read(f, group) for f in fields(section) if _KEY in f.metadata]


def spellings(options: Iterable[Option]) -> Mapping[str, str]:
    """Every keyword that sets a field -> the field's name."""
    return {word: o.field for o in options for word in (o.name, *o.also, o.field)}


def _read(f: Field[Any], group: str) -> Option:
    described = dict(f.metadata[_KEY])
    inner = _without_none(f.type)
    choices = described.pop("choices")
    if get_origin(inner) is Literal:
        choices = choices or tuple(str(value) for value in get_args(inner))
        inner = str
    kind = described.pop("kind") or _SCALARS.get(inner)
    if kind is None:
        kind = "list" if get_origin(inner) is tuple else "json"
    default = f.default
    if default is MISSING:
        assert f.default_factory is not MISSING
        default = f.default_factory()
    return Option(
        field=f.name,
        name=described.pop("name") or f.name,
        group=described.pop("group") or group,
        kind=kind,
        choices=choices,
        default=default,
        **described,
    )


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, UnionType):
        inner = [a for a in get_args(annotation) if a is not NoneType]
        return inner[0] if len(inner) == 1 else annotation
    return annotation
