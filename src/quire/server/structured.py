"""The form of an answer: what a body says of it, in any of the three ways it may say so
(`response_format`, `structured_outputs`, the older `guided_*`), put together with the reasoning
before it and the calls beside it."""

import asyncio
from dataclasses import fields, replace
from typing import Any

from quire.core import structural_tags as forms
from quire.core.errors import RequestError
from quire.core.structured_outputs import CONSTRAINTS, StructuredOutputsParams
from quire.server.protocol.common import GenerationBody
from quire.server.state import Serving
from quire.structured.structural_tag import read_structural_tag
from quire.text.reasoning.formats import reasoning_format_of
from quire.text.reasoning.parser import prompt_state

_KNOWN = frozenset(field.name for field in fields(StructuredOutputsParams))
_GUIDED = {
    "guided_json": "json",
    "guided_regex": "regex",
    "guided_choice": "choice",
    "guided_grammar": "grammar",
    "guided_json_object": "json_object",
    "guided_whitespace_pattern": "whitespace_pattern",
}


def structured_outputs(body: GenerationBody) -> StructuredOutputsParams | None:
    """The one constraint a body asks for; None without.

    Raises:
        RequestError: none of the known forms, or several constraints.
    """
    given: dict[str, Any] = {}
    guided = {name: getattr(body, field) for field, name in _GUIDED.items()}
    for source in (body.structured_outputs or {}, guided, _response_format(body)):
        for name, value in source.items():
            if name not in _KNOWN:
                raise RequestError(
                    f"structured_outputs has no '{name}'; it takes {', '.join(sorted(_KNOWN))}",
                    "structured_outputs",
                )
            if value is None:
                continue
            if name in given and name in CONSTRAINTS:
                raise RequestError(
                    "give one of response_format, structured_outputs and guided_*, not several",
                    "structured_outputs",
                )
            given[name] = value
    # An empty schema, text or list is a constraint too, if a strange one.
    asked = any(given.get(name) not in (None, False) for name in CONSTRAINTS)
    if not asked and not body.structured_outputs:
        return None
    return StructuredOutputsParams(**given)  # which says what is missing


def _response_format(body: GenerationBody) -> dict[str, Any]:
    wanted = body.response_format
    if wanted is None:
        return {}
    match wanted.get("type"):
        case "text":
            return {}
        case "json_object":
            return {"json_object": True}
        case "json_schema":
            return {"json": _schema(wanted)}
        case "structural_tag":
            return {"structural_tag": wanted}
        case kind:
            raise RequestError(
                "response_format's type must be text, json_object, json_schema or structural_tag",
                "response_format",
                kind,
            )


def _schema(wanted: dict[str, Any]) -> Any:
    holder = wanted.get("json_schema")
    if not isinstance(holder, dict):
        raise RequestError(
            "response_format of type json_schema needs the field json_schema", "response_format"
        )
    schema = holder.get("schema")
    if not isinstance(schema, dict | bool):
        raise RequestError(
            "response_format's json_schema needs the field schema, an object", "response_format"
        )
    return schema if isinstance(schema, dict) else ({} if schema else {"not": {}})


async def check_grammar(serving: Serving, constraint: StructuredOutputsParams | None) -> None:
    """Refuse what is no grammar, in a thread: the largest schemas take 40 ms.

    Raises:
        RequestError: with the reason.
    """
    if constraint is not None:
        await asyncio.to_thread(serving.grammars.check, constraint)


def after_reasoning(
    params: StructuredOutputsParams, parser: str, prompt: str
) -> StructuredOutputsParams:
    """The constraint, beginning where the reasoning ends.

    Args:
        parser: the reasoning parser's name.
        prompt: rendered; it may say that the model thinks, or that it does not.
    """
    tags = reasoning_format_of(parser)
    state = prompt_state(prompt, parser)
    if state == "closed":
        return params
    if state == "open" or tags.always:
        return after_text(tags.ends[0], params)
    # Nobody knows whether it thinks: the opening tag says so.
    thought = forms.Optional(forms.Tag(tags.begins[0], forms.AnyText(), tags.ends[0]))
    return with_format(params, forms.Sequence([thought, format_of(params)]))


def either(
    first: StructuredOutputsParams, second: StructuredOutputsParams
) -> StructuredOutputsParams:
    """One or the other; how JSON is written is the first's to say."""
    return with_format(first, forms.AnyOf([format_of(first), format_of(second)]))


def after_text(end: str, params: StructuredOutputsParams) -> StructuredOutputsParams:
    """The same constraint, beginning only after free text up to `end`."""
    return with_format(
        params, forms.Sequence([forms.AnyText(), forms.Const(end), format_of(params)])
    )


def with_format(
    params: StructuredOutputsParams, outermost: forms.Format
) -> StructuredOutputsParams:
    """Another constraint; how JSON is written stays."""
    changes: dict[str, Any] = {params.kind: None} | {
        "structural_tag": forms.structural_tag(outermost)
    }
    return replace(params, **changes)


def format_of(params: StructuredOutputsParams) -> forms.Format:
    value = getattr(params, params.kind)
    match params.kind:
        case "json":
            return forms.JsonSchema(value)
        case "json_object":
            return forms.JsonSchema({"type": "object"})
        case "choice":
            return forms.AnyOf([forms.Const(text) for text in value])
        case "regex":
            return forms.Regex(value)
        case "grammar":
            return forms.Grammar(value)
    return read_structural_tag(value)
