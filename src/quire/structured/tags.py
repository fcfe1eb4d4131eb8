"""Building structural tags: what tool parsers and reasoning need a grammar for.

    call = tag("<tool_call>\\n", json_schema(schema), "\\n</tool_call>")
    structural_tag(triggered_tags(["<tool_call>"], [call]))

says "free text, but after <tool_call> comes JSON of this schema, then </tool_call>". Each
function gives plain JSON; `StructuredOutputsParams(structural_tag=...)` takes the whole.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from quire.core.structured_outputs import StructuredOutputsParams
from quire.structured.structural_tag import outermost_format

Format = dict[str, Any]


def structural_tag(format_: Format) -> dict[str, Any]:
    """The whole, from its outermost format."""
    return {"type": "structural_tag", "format": format_}


def any_text(excludes: Sequence[str] = ()) -> Format:
    """Free text, without the texts excluded."""
    return {"type": "any_text", "excludes": list(excludes)}


def const_string(value: str) -> Format:
    """Exactly this text."""
    return {"type": "const_string", "value": value}


def json_schema(schema: Mapping[str, Any] | bool) -> Format:
    """JSON of a schema."""
    return {"type": "json_schema", "json_schema": schema if schema is True else dict(schema or {})}


def regex(pattern: str) -> Format:
    """Text that matches."""
    return {"type": "regex", "pattern": pattern}


def grammar(text: str) -> Format:
    """Text of a Lark or GBNF grammar."""
    return {"type": "grammar", "grammar": text}


def sequence(*elements: Format) -> Format:
    """One after the other."""
    return {"type": "sequence", "elements": list(elements)}


def any_of(*elements: Format) -> Format:
    """One of them."""
    return {"type": "or", "elements": list(elements)}


def tag(begin: str, content: Format, end: str | Sequence[str]) -> Format:
    """Content between two texts; special tokens in them are meant as tokens. Free text as
    content ends at the first `end`."""
    ends = end if isinstance(end, str) else list(end)
    return {"type": "tag", "begin": begin, "content": content, "end": ends}


def triggered_tags(
    triggers: Sequence[str],
    tags: Sequence[Format],
    *,
    at_least_one: bool = False,
    stop_after_first: bool = False,
) -> Format:
    """Free text in which a trigger must go on as one of the tags that begin with it.

    Args:
        at_least_one: the text begins with a tag, no free text before it.
        stop_after_first: the text ends with the first tag.
    """
    return {
        "type": "triggered_tags",
        "triggers": list(triggers),
        "tags": list(tags),
        "at_least_one": at_least_one,
        "stop_after_first": stop_after_first,
    }


def tags_with_separator(
    tags: Sequence[Format], separator: str, *, at_least_one: bool = False
) -> Format:
    """Tags only, with a text between them."""
    return {
        "type": "tags_with_separator",
        "tags": list(tags),
        "separator": separator,
        "at_least_one": at_least_one,
    }


def object_with(
    properties: Mapping[str, Any], required: Sequence[str] | None = None
) -> dict[str, Any]:
    """The schema of a closed object, such as {"name": ..., "arguments": ...}.

    A schema among `properties` may have definitions of its own, which its references look for at
    the root; they are moved there.
    """
    definitions: dict[str, Any] = {}
    inner = {}
    for name, schema in properties.items():
        if isinstance(schema, Mapping):
            schema = dict(schema)
            for key in ("$defs", "definitions"):
                moved = schema.pop(key, None)
                if isinstance(moved, Mapping):
                    definitions.setdefault(key, {}).update(moved)
        inner[name] = schema
    return {
        "type": "object",
        "properties": inner,
        "required": list(properties if required is None else required),
        "additionalProperties": False,
        **definitions,
    }


def after_text(end: str, params: StructuredOutputsParams) -> StructuredOutputsParams:
    """The same constraint, beginning only after free text up to `end`: what follows a model's
    reasoning. Give the text that ends the reasoning, and what the model writes after it."""
    return StructuredOutputsParams(
        structural_tag=structural_tag(sequence(any_text(), const_string(end), _format_of(params))),
        disable_any_whitespace=params.disable_any_whitespace,
        disable_additional_properties=params.disable_additional_properties,
        whitespace_pattern=params.whitespace_pattern,
    )


def _format_of(params: StructuredOutputsParams) -> Format:
    kind = params.kind
    value = getattr(params, kind)
    if kind == "json":
        return {"type": "json_schema", "json_schema": value}
    if kind == "json_object":
        return json_schema({"type": "object"})
    if kind == "choice":
        return any_of(*map(const_string, value))
    if kind == "structural_tag":
        return dict(outermost_format(value))
    return regex(value) if kind == "regex" else grammar(value)
