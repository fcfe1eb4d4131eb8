"""Constraints as parts of structural tags: after a model's reasoning, or beside its tool calls."""

from dataclasses import replace
from typing import Any

from quire.core.structural_tags import (
    AnyOf,
    AnyText,
    Const,
    Format,
    Grammar,
    JsonSchema,
    Regex,
    Sequence,
    structural_tag,
)
from quire.core.structured_outputs import StructuredOutputsParams
from quire.structured.structural_tag import read_structural_tag


def after_text(end: str, params: StructuredOutputsParams) -> StructuredOutputsParams:
    """The same constraint, beginning only after free text up to `end`."""
    return with_format(params, Sequence([AnyText(), Const(end), format_of(params)]))


def with_format(params: StructuredOutputsParams, outermost: Format) -> StructuredOutputsParams:
    """Another constraint; how JSON is written stays."""
    changes: dict[str, Any] = {params.kind: None} | {"structural_tag": structural_tag(outermost)}
    return replace(params, **changes)


def format_of(params: StructuredOutputsParams) -> Format:
    """A constraint as a format."""
    value = getattr(params, params.kind)
    match params.kind:
        case "json":
            return JsonSchema(value)
        case "json_object":
            return JsonSchema({"type": "object"})
        case "choice":
            return AnyOf([Const(text) for text in value])
        case "regex":
            return Regex(value)
        case "grammar":
            return Grammar(value)
    return read_structural_tag(value)
