"""JSON schemas: bounded, and with the whitespace said.

What llguidance knows of a schema it enforces; an assertion that it does not know is refused with
its name. Unknown values of `format` are annotations, as the standard has it, and `oneOf` is read
as `anyOf` where its branches overlap. Properties come in the order of the schema.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from quire.core.errors import RequestError
from quire.core.structured_outputs import StructuredOutputsParams
from quire.structured.limits import (
    MAX_DEPTH,
    MAX_LEVELS,
    MAX_PROPERTIES,
    MAX_SCHEMA_BYTES,
    check_text,
)
from quire.structured.regex import check_regex

# Between two JSON tokens: nothing, a space, or a line break and its indentation. Bounded, so that
# no model can write blanks for ever.
WHITESPACE = r" |\n {0,24}|\n\t{0,8}"

# The formats that llguidance enforces.
FORMATS = (
    "date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"
)  # fmt: skip

# Keywords whose value is a schema, a list of schemas, or schemas by name.
_ONE = ("items", "additionalItems", "additionalProperties", "contains", "not", "if", "then",
        "else", "propertyNames", "unevaluatedItems", "unevaluatedProperties")  # fmt: skip
_LIST = ("anyOf", "allOf", "oneOf", "prefixItems", "items")
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")


@dataclass(frozen=True, slots=True)
class JsonStyle:
    """How JSON is written. `whitespace` is a regex, None for no whitespace at all."""

    whitespace: str | None = WHITESPACE
    close_objects: bool = False  # no properties but those listed

    @staticmethod
    def of(params: StructuredOutputsParams, disable_any_whitespace: bool = False) -> "JsonStyle":
        """What a request asks for; `disable_any_whitespace` is the engine's default."""
        none = params.disable_any_whitespace or disable_any_whitespace
        pattern = "" if none else WHITESPACE
        if params.whitespace_pattern is not None:
            pattern = params.whitespace_pattern
        if pattern:
            check_regex(pattern, "whitespace_pattern")
        return JsonStyle(pattern or None, params.disable_additional_properties)


def schema_text(schema: Any, style: JsonStyle, parameter: str = "json") -> str:
    """A schema as llguidance reads it.

    Args:
        schema: a dict, a bool, or the text of one.
        parameter: the request's field, for errors.

    Raises:
        RequestError: not a schema, or one beyond the limits.
    """
    if isinstance(schema, str):
        schema = parse_json(schema, parameter, MAX_SCHEMA_BYTES)
    if schema is True:
        schema = {}
    if not isinstance(schema, dict):
        raise RequestError(
            f"{parameter} must be a JSON schema object, got {schema!r:.80}", parameter
        )
    check_depth(schema, parameter)
    _check_levels(schema, parameter)
    try:
        body = json.loads(json.dumps(schema, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise RequestError(f"{parameter} is not JSON: {error}", parameter) from None
    for each in _schemas(body):
        _check_objects(each, parameter)
        if "format" in each and each["format"] not in FORMATS:
            del each["format"]
        if style.close_objects and _lists_properties(each):
            each["additionalProperties"] = False
    body["x-guidance"] = {"coerce_one_of": True} | (
        {"whitespace_flexible": False}
        if style.whitespace is None
        else {"whitespace_pattern": style.whitespace}
    )
    text = json.dumps(body, ensure_ascii=False)
    check_text(parameter, text, MAX_SCHEMA_BYTES)
    return text


def parse_json(text: str, parameter: str, max_bytes: int) -> Any:
    """JSON from a request's text."""
    check_text(parameter, text, max_bytes)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{parameter} is not valid JSON: {error}", parameter) from None


def check_depth(value: Any, parameter: str) -> None:
    """Refuse JSON nested too deep."""
    if _depth(value) > MAX_DEPTH:
        raise RequestError(
            f"{parameter} is nested deeper than the {MAX_DEPTH} levels allowed", parameter
        )


def _nodes(value: Any) -> Iterator[tuple[Any, int]]:
    """Every object and list in JSON, with its depth; without recursion of our own."""
    todo = [(value, 1)]
    while todo:
        node, depth = todo.pop()
        if isinstance(node, dict | list):
            yield node, depth
            children = node.values() if isinstance(node, dict) else node
            todo += [(child, depth + 1) for child in children]


def _depth(value: Any) -> int:
    return max((depth for _, depth in _nodes(value)), default=0)


def _check_levels(schema: dict[str, Any], parameter: str) -> None:
    """A bound on the nesting once references are followed: each can be entered once on a path."""
    references = (node.get("$ref") for node, _ in _nodes(schema) if isinstance(node, dict))
    targets = {each for each in references if isinstance(each, str)}
    levels = _depth(schema) + sum(1 + _depth(_resolve(schema, target)) for target in targets)
    if levels > MAX_LEVELS:
        raise RequestError(
            f"{parameter} is {levels} levels deep once its references are followed; at most "
            f"{MAX_LEVELS} are allowed",
            parameter,
            levels,
        )


def _resolve(schema: Any, pointer: str) -> Any:
    """What a reference within the schema points to; None if it is another kind of reference."""
    if not pointer.startswith("#"):
        return None
    node = schema
    for part in filter(None, pointer[1:].split("/")):
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(node, list):
            node = dict(zip(map(str, range(len(node))), node))
        node = node.get(key) if isinstance(node, dict) else None
    return node


def _schemas(schema: Any) -> Iterator[dict[str, Any]]:
    """It and the schemas inside, but nothing that only looks like one (in `enum`, say)."""
    todo = [schema]
    while todo:
        node = todo.pop()
        if not isinstance(node, dict):
            continue
        yield node
        for key, value in node.items():
            if key in _NAMED and isinstance(value, dict):
                todo += value.values()
            elif key in _LIST and isinstance(value, list):
                todo += value
            elif key in _ONE:
                todo.append(value)


def _check_objects(schema: dict[str, Any], parameter: str) -> None:
    patterns = [schema.get("pattern"), *_names(schema, "patternProperties")]
    for pattern in patterns:
        if isinstance(pattern, str) and pattern:
            check_regex(pattern, parameter)
    for names in (_names(schema, "properties"), patterns):
        if len(names) > MAX_PROPERTIES:
            raise RequestError(
                f"{parameter} has an object of {len(names)} properties; at most "
                f"{MAX_PROPERTIES} are allowed",
                parameter,
                len(names),
            )


def _names(schema: dict[str, Any], key: str) -> list[str]:
    value = schema.get(key)
    return list(value) if isinstance(value, dict) else []


def _lists_properties(schema: dict[str, Any]) -> bool:
    is_object = schema.get("type") == "object" or "properties" in schema
    return is_object and not {"additionalProperties", "patternProperties"} & schema.keys()
