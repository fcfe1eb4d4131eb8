"""Constraints as parts of structural tags: after a model's reasoning, or beside its tool calls."""

from dataclasses import replace
from typing import Any

import msgspec

from quire.core.structural_tags import (
    Format,
    any_of,
    any_text,
    const_string,
    regex,
    sequence,
    structural_tag,
)
from quire.core.structured_outputs import StructuredOutputsParams
from quire.structured.tag_formats import read_structural_tag


def after_text(end: str, params: StructuredOutputsParams) -> StructuredOutputsParams:
    """The same constraint, beginning only after free text up to `end`."""
    return with_format(params, sequence(any_text(), const_string(end), format_of(params)))


def with_format(params: StructuredOutputsParams, outermost: Format) -> StructuredOutputsParams:
    """Another constraint; how JSON is written stays."""
    changes: dict[str, Any] = {params.kind: None} | {"structural_tag": structural_tag(outermost)}
    return replace(params, **changes)


def format_of(params: StructuredOutputsParams) -> Format:
    """A constraint as a format."""
    value = getattr(params, params.kind)
    match params.kind:
        case "json":
            return {"type": "json_schema", "json_schema": value}
        case "json_object":
            return {"type": "json_schema", "json_schema": {"type": "object"}}
        case "choice":
            return any_of(*map(const_string, value))
        case "regex":
            return regex(value)
        case "grammar":
            return {"type": "grammar", "grammar": value}
    return dict(msgspec.to_builtins(read_structural_tag(value)))
