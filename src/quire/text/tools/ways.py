"""How calls are written, for a grammar: what a format tells of itself beside how it is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quire.core.structural_tags import Format, Tag, TagsWithSeparator

# Name -> schema of the parameters.
Tools = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Way:
    """One way of writing calls: begin, calls with a separator between, end.

    Attributes:
        trigger: what announces them in free text.
        calls: a tag a tool.
        begin: where it is empty, each call in free text is announced by itself.
    """

    trigger: str
    calls: list[Tag]
    begin: str = ""
    separator: str = ""
    end: str = ""

    def row(self, single: bool) -> Format:
        """Calls and nothing else; `single`: one."""
        calls = TagsWithSeparator(
            self.calls, self.separator, at_least_one=True, stop_after_first=single
        )
        return Tag(self.begin, calls, self.end) if self.begin else calls

    def tags(self, single: bool) -> list[Tag]:
        """For free text, each of which may occur there; `single`: with one call."""
        row = self.row(single)
        return [row] if isinstance(row, Tag) else self.calls


def object_schema(schema: Any) -> dict[str, Any]:
    """A schema of arguments; without one, there are none to give."""
    if not isinstance(schema, Mapping) or not schema:
        return {"type": "object", "properties": {}}
    return {"type": "object", **schema}


def properties_of(schema: Any) -> dict[str, dict[str, Any]]:
    """The schema of each property, such that it can stand alone."""
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    if not isinstance(properties, Mapping):
        return {}
    definitions = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    return {
        name: {**(value if isinstance(value, Mapping) else {}), **definitions}
        for name, value in properties.items()
    }


def required_of(schema: Mapping[str, Any]) -> tuple[str, ...]:
    required = schema.get("required")
    return tuple(required) if isinstance(required, list | tuple) else ()
