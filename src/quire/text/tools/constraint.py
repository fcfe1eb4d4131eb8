"""What a grammar must enforce so that tool calls are well-formed, as structural tags.

Nothing here knows tokens: where a tag is a special token, the grammar compiler sees to it. Calls
that nothing but a bracket announces, at the start of a text, are never forced under "auto".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from quire.core.structural_tags import AnyOf, TriggeredTags, structural_tag
from quire.text.tools.formats import ToolFormat
from quire.text.tools.formats_tagged import json_types
from quire.text.tools.parser import tool_format_of, tool_schemas
from quire.text.tools.ways import Tools, Way, properties_of, required_of

_TYPES = frozenset(("array", "boolean", "integer", "null", "number", "object", "string"))


@dataclass(frozen=True, slots=True)
class ToolConstraint:
    """Calls in free text, or nothing but calls.

    Attributes:
        strict: names of the tools whose schemas must hold.
        forced: the text is nothing but calls.
        single: the text ends with the first call.
        chat_template: narrows formats that come in several versions (Mistral's).
    """

    tool_format: ToolFormat
    tools: Tools
    strict: frozenset[str]
    forced: bool
    single: bool
    chat_template: str

    def relaxed(self) -> "ToolConstraint":
        """The same with no more than the names and types of arguments, except for strict tools.

        For schemas that cannot be compiled: they are advice unless the tool is strict.
        """
        tools = {
            name: schema if name in self.strict else _relaxed(schema)
            for name, schema in self.tools.items()
        }
        return replace(self, tools=tools)

    def structural_tag(self) -> dict[str, Any]:
        """For `StructuredOutputsParams`."""
        ways = self._ways()
        if self.forced:
            return structural_tag(AnyOf([way.row(self.single) for way in ways]))
        tags = [tag for way in ways for tag in way.tags(self.single)]
        triggers = list(dict.fromkeys(way.trigger for way in ways))
        return structural_tag(TriggeredTags(triggers, tags, stop_after_first=self.single))

    @property
    def binds_every_call(self) -> bool:
        """Whether no call can be written past the grammar, so that a parser may trust them."""
        bound = {way.trigger for way in self._ways()}
        return self.forced or (not self.tool_format.bare and bound >= {*self.tool_format.triggers})

    def _ways(self) -> list[Way]:
        ways = self.tool_format.ways(self.tools, self.chat_template)
        return [way for way in ways if self.forced or len(way.trigger) > 1]


def tool_constraint(
    parser_name: str,
    tools: Sequence[Mapping[str, Any]],
    choice: str = "auto",
    parallel: bool = True,
    chat_template: str = "",
) -> ToolConstraint | None:
    """The constraint of a request; None if there is nothing to enforce.

    Args:
        parser_name: one of `TOOL_PARSERS`. "json" is for models that have no format of their own.
        tools: in OpenAI's shape; those that may be called.
        choice: "required": nothing but calls; "auto": calls in free text.
        parallel: False: one call at most.
        chat_template: see `ToolConstraint`.

    Raises:
        ConfigError: no such parser.
    """
    functions = (tool.get("function", tool) for tool in tools)
    constraint = ToolConstraint(
        tool_format_of(parser_name),
        tool_schemas(tools),
        frozenset(str(f.get("name")) for f in functions if f.get("strict") is True),
        choice == "required",
        not parallel,
        chat_template,
    )
    return constraint if constraint._ways() else None


def _relaxed(schema: Any) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for name, value in properties_of(schema).items():
        types = json_types(value, schema)
        properties[name] = {"type": sorted(types)} if types and types <= _TYPES else {}
    if not properties:
        return {"type": "object"}
    required = [name for name in required_of(schema) if name in properties]
    return {"type": "object", "properties": properties, "required": required}
