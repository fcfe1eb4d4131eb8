"""What a grammar must enforce so that tool calls are well-formed, in terms of text and schemas.

`tool_constraint` says it for a request; `ToolConstraint.structural_tag` writes it in vLLM's JSON
for structural tags, which the grammar compiler takes. Nothing here knows tokens: where a tag is a
special token, the compiler sees to it.

Left out, so never forced: calls written as Python under "auto", where nothing but a bracket
announces them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from quire.core.errors import RequestError
from quire.text.tools.call_grammar import CallGrammar, Format, SectionGrammar, sections_of
from quire.text.tools.formats import ToolFormat
from quire.text.tools.parser import tool_format_of, tool_schemas

# tool_choice as clients send it: "auto", "none", "required", or an object that names a function.
ToolChoice = str | Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class ToolConstraint:
    """Calls in free text, or nothing but calls.

    Attributes:
        triggers: text that may only go on as a call; used unless `at_least_one`.
        sections: the ways a call, or a row of calls, may be written.
        separator: between two of these, where the text is nothing but calls.
        at_least_one: the text is nothing but calls.
        stop_after_first: the text ends with the first call.
        binds_every_call: no call can be written past the grammar, so a parser may trust them.
    """

    triggers: tuple[str, ...]
    sections: tuple[SectionGrammar, ...]
    separator: str
    at_least_one: bool
    stop_after_first: bool
    binds_every_call: bool

    @property
    def calls(self) -> tuple[CallGrammar, ...]:
        """Each tool in each way it may be written."""
        return tuple(call for section in self.sections for call in section.calls)

    def relaxed(self) -> "ToolConstraint":
        """The same with any JSON object as arguments, except for tools marked strict.

        For schemas that cannot be compiled: they are advice unless the tool is strict.
        """
        sections = tuple(
            replace(section, calls=tuple(call.relaxed() for call in section.calls))
            for section in self.sections
        )
        return replace(self, sections=sections)

    def structural_tag(self) -> dict[str, Any]:
        """As vLLM writes structural tags."""
        tags = [
            tag for section in self.sections for tag in section.tags(single=self.stop_after_first)
        ]
        outermost: Format
        if self.at_least_one:
            outermost = {
                "type": "tags_with_separator",
                "tags": tags,
                "separator": self.separator,
                "at_least_one": True,
                # A section has room for all calls.
                "stop_after_first": self.stop_after_first or all(s.begin for s in self.sections),
            }
        else:
            outermost = {
                "type": "triggered_tags",
                "triggers": list(self.triggers),
                "tags": tags,
                "at_least_one": False,
                "stop_after_first": self.stop_after_first,
            }
        return {"type": "structural_tag", "format": outermost}


def tool_constraint(
    parser_name: str,
    tools: Sequence[Mapping[str, Any]] | None,
    tool_choice: ToolChoice = None,
    parallel: bool = True,
    strict: bool | None = None,
    chat_template: str = "",
) -> ToolConstraint | None:
    """The constraint of a request; None if there is nothing to enforce.

    Args:
        parser_name: one of `TOOL_PARSERS`. "json" is for models that have no format of their own.
        tools: in OpenAI's shape.
        tool_choice: None is "auto" where there are tools.
        parallel: False: one call at most.
        strict: hold all tools, or none, to their schemas even where that cannot be compiled;
            None: those that say `strict` themselves.
        chat_template: narrows formats that come in several versions (Mistral's).

    Raises:
        RequestError: tool_choice is none of its forms, or names a tool that is not there.
        ConfigError: no such parser.
    """
    choice, named = read_tool_choice(tool_choice, tools)
    if not tools or choice == "none":
        return None
    schemas = tool_schemas(tools)
    if named is not None:
        schemas = {named: schemas[named]}
    tool_format = tool_format_of(parser_name)
    forced = choice != "auto"
    calls = {name: (schema, _strict(tools, name, strict)) for name, schema in schemas.items()}
    sections = sections_of(tool_format, calls, chat_template)
    triggers = () if forced else _triggers(tool_format, sections)
    if triggers is None:
        return None
    return ToolConstraint(
        triggers=triggers,
        sections=sections,
        separator=sections[0].joint,
        at_least_one=forced,
        stop_after_first=named is not None or not parallel,
        binds_every_call=forced or not tool_format.bare,
    )


def _triggers(
    tool_format: ToolFormat, sections: tuple[SectionGrammar, ...]
) -> tuple[str, ...] | None:
    """What announces a call in free text; None if that is too little to go by."""
    if tool_format.bare:
        found = tuple(dict.fromkeys(section.trigger for section in sections))
        return found if all(len(trigger) > 1 for trigger in found) else None
    begins = [begin for section in sections for begin in section.begins]
    return tuple(t for t in tool_format.triggers if any(b.startswith(t) for b in begins))


def read_tool_choice(
    tool_choice: ToolChoice, tools: Sequence[Mapping[str, Any]] | None
) -> tuple[str, str | None]:
    """ "auto", "none", "required" or "named", and the name.

    Raises:
        RequestError: none of these forms, a choice without tools, or a tool that is not there.
    """
    if tool_choice is None:
        return ("auto" if tools else "none"), None
    if tool_choice == "none":
        return "none", None
    if tool_choice in ("auto", "required") and isinstance(tool_choice, str):
        if not tools:
            raise RequestError("tool_choice needs tools; give some", "tool_choice", tool_choice)
        return tool_choice, None
    function = tool_choice.get("function", tool_choice) if isinstance(tool_choice, Mapping) else {}
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str):
        raise RequestError(
            'tool_choice must be "auto", "none", "required" or {"type": "function", "function":'
            ' {"name": …}}',
            "tool_choice",
            tool_choice,
        )
    known = tool_schemas(tools or ())
    if name not in known:
        raise RequestError(
            f"tool_choice names '{name}', which is not among the tools"
            f" ({', '.join(known) or 'there are none'})",
            "tool_choice",
            name,
        )
    return "named", name


def _strict(tools: Sequence[Mapping[str, Any]], name: str, override: bool | None) -> bool:
    if override is not None:
        return override
    functions = (tool.get("function", tool) for tool in tools)
    return any(f.get("name") == name and f.get("strict") is True for f in functions)
