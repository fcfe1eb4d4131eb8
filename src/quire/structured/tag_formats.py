"""What a structural tag is made of: the formats of its JSON, in the shape that vLLM takes.

The tree is {"type": "structural_tag", "format": ...}, or the older {"structures", "triggers"}.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from quire.core.errors import RequestError
from quire.structured.json_schema import check_depth, parse_json
from quire.structured.limits import MAX_SCHEMA_BYTES

FIELD = "structural_tag"
MAX_REPEAT = 1000

Count = Annotated[int, Meta(ge=0, le=MAX_REPEAT)]


class AnyText(msgspec.Struct, tag="any_text"):
    """A limit in tokens is not supported."""

    max_chars: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    max_tokens: None = None
    excludes: list[str] | None = None


class Const(msgspec.Struct, tag="const_string"):
    value: str


class Regex(msgspec.Struct, tag="regex"):
    pattern: str


class Grammar(msgspec.Struct, tag="grammar"):
    """Lark or GBNF."""

    grammar: str


class JsonSchema(msgspec.Struct, tag="json_schema"):
    json_schema: dict[str, Any] | bool | str = True
    style: Literal["json"] = "json"


class Token(msgspec.Struct, tag="token"):
    """By its id or its text."""

    token: Annotated[int, Meta(ge=0)] | str


class Repeated(msgspec.Struct, tag="repeat"):
    content: "Format"
    min: Count
    max: Count | Literal[-1]  # -1: any number


class Optional(msgspec.Struct, tag="optional"):
    content: "Format"


class Star(msgspec.Struct, tag="star"):
    content: "Format"


class Plus(msgspec.Struct, tag="plus"):
    content: "Format"


class Sequence(msgspec.Struct, tag="sequence"):
    """Free text in it ends where the text of the next element begins."""

    elements: Annotated[list["Format"], Meta(min_length=1)]


class AnyOf(msgspec.Struct, tag="or"):
    elements: Annotated[list["Format"], Meta(min_length=1)]


class Tag(msgspec.Struct, tag="tag"):
    """Content between two texts, of which the second may be one of several."""

    begin: str | Token
    content: "Format"
    end: str | list[str] | Token = ""


Tags = Annotated[list[Tag], Meta(min_length=1)]


class TagsWithSeparator(msgspec.Struct, tag="tags_with_separator"):
    tags: Tags
    separator: str = ""
    at_least_one: bool = False
    stop_after_first: bool = False


class TriggeredTags(msgspec.Struct, tag="triggered_tags"):
    """Free text in which a trigger must go on as one of the tags that begin with it."""

    triggers: list[str]
    tags: Tags
    at_least_one: bool = False
    stop_after_first: bool = False
    excludes: list[str] | None = None


class Dispatch(msgspec.Struct, tag="dispatch"):
    """Free text in which each of these texts must go on in its format."""

    rules: Annotated[list[tuple[str, "Format"]], Meta(min_length=1)]
    loop: bool = True
    excludes: list[str] | None = None


Format = (
    AnyText | Const | Regex | Grammar | JsonSchema | Token | Repeated | Optional | Star | Plus
    | Sequence | AnyOf | Tag | TagsWithSeparator | TriggeredTags | Dispatch
)  # fmt: skip


class Structure(msgspec.Struct):
    """A tag of the older shape."""

    begin: str
    end: str
    schema: dict[str, Any] | bool = True


class Older(msgspec.Struct):
    structures: Annotated[list[Structure], Meta(min_length=1)]
    triggers: list[str]


def read_structural_tag(value: str | dict[str, Any]) -> Format:
    """The outermost format, whichever of the two shapes it has.

    Raises:
        RequestError: it has none, or is nested too deep.
    """
    if isinstance(value, str):
        value = parse_json(value, FIELD, 4 * MAX_SCHEMA_BYTES)
    check_depth(value, FIELD)
    try:
        if isinstance(value, dict) and "format" in value:
            return msgspec.convert(value["format"], Format)
        older = msgspec.convert(value, Older)
    except msgspec.ValidationError as error:
        raise RequestError(f"{FIELD}: {_explained(str(error))}", FIELD) from None
    tags = [Tag(s.begin, JsonSchema(s.schema), s.end) for s in older.structures]
    return TriggeredTags(older.triggers, tags)


def _explained(problem: str) -> str:
    if problem.endswith(".type`"):
        known = sorted(str(each.__struct_config__.tag) for each in Format.__args__)
        return f"{problem}; known types are {', '.join(known)}"
    if "`structures`" in problem:
        return 'it needs "format", or "structures" and "triggers"'
    return problem
