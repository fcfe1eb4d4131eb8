"""Structural tags: free text with constrained parts, in the shape of JSON that vLLM takes too.

    call = Tag("<tool_call>\n", JsonSchema(schema), "\n</tool_call>")
    structural_tag(TriggeredTags(["<tool_call>"], [call]))

says "free text, but after <tool_call> comes JSON of this schema, then </tool_call>".
`structured.structural_tag` turns them into grammars.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

MAX_REPEAT = 1000

Count = Annotated[int, Meta(ge=0, le=MAX_REPEAT)]


class AnyText(msgspec.Struct, tag="any_text"):
    """Free text: up to the text that follows it, or the end. A limit in tokens is not supported."""

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
    """Content between two texts, of which the second may be one of several; special tokens in
    them are meant as tokens."""

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
    """Free text in which a trigger must go on as one of the tags that begin with it.

    `at_least_one`: the text begins with a tag, no free text before it. `stop_after_first`: it
    ends with the first.
    """

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


def structural_tag(outermost: Format) -> dict[str, Any]:
    """The whole, as `StructuredOutputsParams` takes it."""
    return {"type": "structural_tag", "format": msgspec.to_builtins(outermost)}
