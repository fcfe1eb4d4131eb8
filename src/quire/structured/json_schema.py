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
FORMATS = frozenset(
    ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri")
)

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
        pattern = params.whitespace_pattern
        if pattern is not None:
            if pattern:
                check_regex(pattern, "whitespace_pattern")
            whitespace: str | None = pattern or None
        else:
            none = params.disable_any_whitespace or disable_any_whitespace
            whitespace = None if none else WHITESPACE
        return JsonStyle(whitespace, params.disable_additional_properties)


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
    _check_patterns(schema, parameter)
    levels = _levels(schema)
    if levels > MAX_LEVELS:
        raise RequestError(
            f"{parameter} is {levels} levels deep once its references are followed; at most "
            f"{MAX_LEVELS} are allowed",
            parameter,
            levels,
        )
    body = {k: v for k, v in _rewritten(schema, style).items() if k != "x-guidance"}
    options: dict[str, Any] = {"coerce_one_of": True}
    if style.whitespace is None:
        options["whitespace_flexible"] = False
    else:
        options["whitespace_pattern"] = style.whitespace
    try:
        text = json.dumps({"x-guidance": options, **body}, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise RequestError(f"{parameter} is not JSON: {error}", parameter) from None
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
    """Refuse JSON nested too deep, without recursion of our own."""
    todo = [(value, 1)]
    while todo:
        node, depth = todo.pop()
        if not isinstance(node, dict | list):
            continue
        if depth > MAX_DEPTH:
            raise RequestError(
                f"{parameter} is nested deeper than the {MAX_DEPTH} levels allowed", parameter
            )
        children = node.values() if isinstance(node, dict) else node
        todo += [(child, depth + 1) for child in children]


def _check_patterns(schema: dict[str, Any], parameter: str) -> None:
    for node in _nodes(schema):
        if not isinstance(node, dict):
            continue
        pattern = node.get("pattern")
        if isinstance(pattern, str) and pattern:
            check_regex(pattern, parameter)
        for name in ("properties", "patternProperties"):
            properties = node.get(name)
            if not isinstance(properties, dict):
                continue
            if len(properties) > MAX_PROPERTIES:
                raise RequestError(
                    f"{parameter} has an object of {len(properties)} properties; at most "
                    f"{MAX_PROPERTIES} are allowed",
                    parameter,
                    len(properties),
                )
            if name == "patternProperties":
                for key in filter(None, properties):
                    check_regex(key, parameter)


def _levels(schema: dict[str, Any]) -> int:
    """A bound on the nesting once references are followed: each can be entered once on a path."""
    targets = {node["$ref"] for node in _nodes(schema) if _is_reference(node)}
    return _depth(schema) + sum(1 + _depth(_resolve(schema, target)) for target in targets)


def _is_reference(node: Any) -> bool:
    return isinstance(node, dict) and isinstance(node.get("$ref"), str)


def _nodes(value: Any) -> Iterator[Any]:
    todo = [value]
    while todo:
        node = todo.pop()
        yield node
        if isinstance(node, dict):
            todo += node.values()
        elif isinstance(node, list):
            todo += node


def _depth(value: Any) -> int:
    deepest = 0
    todo = [(value, 1)]
    while todo:
        node, depth = todo.pop()
        deepest = max(deepest, depth)
        if isinstance(node, dict | list):
            children = node.values() if isinstance(node, dict) else node
            todo += [(child, depth + 1) for child in children]
    return deepest


def _resolve(schema: Any, pointer: str) -> Any:
    """What a reference within the schema points to; None if it is another kind of reference."""
    if not pointer.startswith("#"):
        return None
    node = schema
    for part in filter(None, pointer[1:].split("/")):
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(node, dict):
            node = node.get(key)
        elif isinstance(node, list) and key.isascii() and key.isdigit() and int(key) < len(node):
            node = node[int(key)]
        else:
            return None
    return node


def _rewritten(schema: Any, style: JsonStyle) -> Any:
    """A copy that says what is meant; the depth has been checked."""
    if not isinstance(schema, dict):
        return schema
    copy: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "format" and value not in FORMATS:
            continue
        if key in _NAMED and isinstance(value, dict):
            value = {name: _rewritten(inner, style) for name, inner in value.items()}
        elif key in _LIST and isinstance(value, list):
            value = [_rewritten(inner, style) for inner in value]
        elif key in _ONE:
            value = _rewritten(value, style)
        copy[key] = value
    if style.close_objects and _lists_properties(copy):
        copy["additionalProperties"] = False
    return copy


def _lists_properties(schema: dict[str, Any]) -> bool:
    is_object = schema.get("type") == "object" or "properties" in schema
    return is_object and not {"additionalProperties", "patternProperties"} & schema.keys()
