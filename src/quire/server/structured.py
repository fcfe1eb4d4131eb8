"""What a body says about the form of its answer, in any of the three ways it may say so:
`response_format`, `structured_outputs`, and the older `guided_*`."""

from dataclasses import fields
from typing import Any

from quire.core.errors import RequestError
from quire.core.structured_outputs import CONSTRAINTS, StructuredOutputsParams
from quire.server.protocol.common import GenerationBody

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
    for source in (body.structured_outputs or {}, _guided(body), _response_format(body)):
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
    if not any(given.get(name) not in (None, False) for name in CONSTRAINTS):
        if body.structured_outputs:
            return StructuredOutputsParams(**given)  # which says what is missing
        return None
    return StructuredOutputsParams(**given)


def _guided(body: GenerationBody) -> dict[str, Any]:
    return {
        name: getattr(body, field)
        for field, name in _GUIDED.items()
        if getattr(body, field) is not None
    }


def _response_format(body: GenerationBody) -> dict[str, Any]:
    wanted = body.response_format
    if wanted is None:
        return {}
    kind = wanted.get("type")
    if kind == "text":
        return {}
    if kind == "json_object":
        return {"json_object": True}
    if kind == "json_schema":
        return {"json": _schema(wanted)}
    if kind == "structural_tag":
        return {"structural_tag": wanted}
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
