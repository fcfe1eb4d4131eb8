"""How each format writes a call, as text around JSON schemas.

The other direction of `formats`: these are the canonical forms, with the line breaks that chat
templates show models, where the readers are lenient.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from quire.text.tools.formats import ToolFormat
from quire.text.tools.formats_json import JsonCalls
from quire.text.tools.formats_named import NamedCalls
from quire.text.tools.formats_pythonic import PythonicCalls
from quire.text.tools.formats_tagged import TaggedCalls, json_types

# One format of a structural tag, as JSON.
Format = dict[str, Any]
# Name -> (schema of the parameters, whether it must hold).
Tools = Mapping[str, tuple[Any, bool]]

_ANY_OBJECT: Mapping[str, Any] = {"type": "object"}
_LABEL = r'[^<>"\n]{1,64}'
# Python's keywords in a row have no way to leave one out without a comma too many.
_MAX_CHAINED = 8


@dataclass(frozen=True, slots=True)
class FieldGrammar:
    """One parameter, where each is written by itself: begin, value, end.

    Attributes:
        schema: of the value; None: free text up to `end`, or one of `choices`.
        required: it must occur, where the order is fixed.
        name: None: any name, between `begin` and `name_end`.
    """

    name: str | None
    begin: str
    schema: Mapping[str, Any] | None
    end: str
    required: bool = False
    name_end: str = ""
    choices: tuple[str, ...] = ()

    def format(self) -> Format:
        """As part of a structural tag."""
        content: Format
        if self.schema is not None:
            content = _json(self.schema)
        elif self.choices:
            content = {"type": "or", "elements": [_const(choice) for choice in self.choices]}
        else:
            content = {"type": "any_text"}
        if self.name is not None:
            return _tag(self.begin, content, self.end)
        name = {"type": "regex", "pattern": _LABEL}
        return _sequence(_const(self.begin), name, _tag(self.name_end, content, self.end))


@dataclass(frozen=True, slots=True)
class CallGrammar:
    """A call of one tool: begin, arguments, end.

    Attributes:
        schema: of the arguments, as JSON.
        fields: the arguments are written one by one instead.
        field_joint: text between two of these; with it, their order is fixed.
        counted: a number and this text stand between begin and arguments.
        strict: the schema must hold, whatever it costs.
    """

    name: str
    begin: str
    schema: Mapping[str, Any]
    end: str
    fields: tuple[FieldGrammar, ...] | None = None
    field_joint: str = ""
    counted: str = ""
    strict: bool = False

    def relaxed(self) -> "CallGrammar":
        """With any arguments, unless strict."""
        if self.strict:
            return self
        fields = self.fields
        if fields is not None:
            fields = tuple(f if f.schema is None else replace(f, schema={}) for f in fields)
        return replace(self, schema=_ANY_OBJECT, fields=fields)

    def tag(self) -> Format:
        """As a tag of a structural tag."""
        if self.fields is None:
            content = _json(self.schema)
        elif self.field_joint:
            content = _chained(self.fields, self.field_joint)
        elif self.strict:
            content = _sequence(
                *(f.format() if f.required else _optional(f.format()) for f in self.fields)
            )
        else:
            choices = {"type": "or", "elements": [f.format() for f in self.fields]}
            content = {"type": "star", "content": choices} if self.fields else _sequence()
        if self.counted:
            number = {"type": "regex", "pattern": "[0-9]{1,3}"}
            content = _sequence(number, _const(self.counted), content)
        return _tag(self.begin, content, self.end)


@dataclass(frozen=True, slots=True)
class SectionGrammar:
    """Calls in a row: begin, calls with a separator between, end.

    Attributes:
        joint: what stands between two sections, where there are several in a text.
    """

    calls: tuple[CallGrammar, ...]
    begin: str = ""
    separator: str = ""
    end: str = ""
    joint: str = "\n"

    @property
    def begins(self) -> Iterator[str]:
        """The texts it may begin with."""
        return iter([self.begin] if self.begin else [call.begin for call in self.calls])

    @property
    def trigger(self) -> str:
        """What all of them have in common, as far as a tool's name."""
        if self.begin:
            return self.begin
        begin, name = self.calls[0].begin, self.calls[0].name
        return begin[: begin.index(name)]

    def tags(self, single: bool) -> list[Format]:
        """As tags of a structural tag; `single`: with one call each."""
        tags = [call.tag() for call in self.calls]
        if not self.begin:
            return tags
        row: Format = {
            "type": "tags_with_separator",
            "tags": tags,
            "separator": self.separator,
            "at_least_one": True,
            "stop_after_first": single,
        }
        return [_tag(self.begin, row, self.end)]


def sections_of(
    tool_format: ToolFormat, tools: Tools, chat_template: str = ""
) -> tuple[SectionGrammar, ...]:
    """The ways a format writes calls of these tools."""
    match tool_format:
        case JsonCalls():
            return (_json_section(tool_format, tools),)
        case NamedCalls(listed=True):
            return _mistral_sections(tool_format, tools, chat_template)
        case NamedCalls():
            return (_named_section(tool_format, tools),)
        case TaggedCalls():
            return (_tagged_section(tool_format, tools),)
        case PythonicCalls():
            return (_pythonic_section(tool_format, tools),)
    raise AssertionError(f"no grammar for {tool_format}")


def _json_section(form: JsonCalls, tools: Tools) -> SectionGrammar:
    begin = form.begins[0] + form.padding if form.begins and not form.bare else ""
    end = form.padding + form.ends[0] if form.ends and not form.bare else ""
    key = form.argument_key
    if form.listed:
        calls = _object_calls(tools, key, "", "")
        return SectionGrammar(calls, begin + "[", ", ", "]" + end)
    return SectionGrammar(_object_calls(tools, key, begin, end), joint=form.separator)


def _object_calls(tools: Tools, key: str, begin: str, end: str) -> tuple[CallGrammar, ...]:
    return tuple(
        CallGrammar(
            name,
            f'{begin}{{"name": {json.dumps(name, ensure_ascii=False)}, "{key}": ',
            object_schema(schema),
            "}" + end,
            strict=strict,
        )
        for name, (schema, strict) in tools.items()
    )


def _named_section(form: NamedCalls, tools: Tools) -> SectionGrammar:
    gap = form.padding
    calls = tuple(
        CallGrammar(
            name,
            f"{form.call}{form.kind}functions.{name}:"
            if form.counted
            else f"{form.call}{form.kind}{name}{gap}{form.arguments}{gap}",
            object_schema(schema),
            gap + "".join(form.call_ends),
            counted=form.arguments if form.counted else "",
            strict=strict,
        )
        for name, (schema, strict) in tools.items()
    )
    return SectionGrammar(calls, form.section, gap, form.section_end)


def _mistral_sections(
    form: NamedCalls, tools: Tools, chat_template: str
) -> tuple[SectionGrammar, ...]:
    """Newer models write `[TOOL_CALLS]name[ARGS]{…}` or without [ARGS], older ones a list."""
    listed = tuple(
        SectionGrammar(_object_calls(tools, "arguments", "", ""), form.call + gap + "[", ", ", "]")
        for gap in ("", " ")
    )
    with_arguments = SectionGrammar(_named_section(form, tools).calls, joint="")
    if form.arguments in chat_template:
        return (with_arguments,)
    plain = SectionGrammar(
        _named_section(replace(form, arguments=""), tools).calls,
        joint="",
    )
    if f"{form.call}[" in chat_template or f"{form.call} [" in chat_template:
        return listed
    return (with_arguments, plain, *listed)


def _tagged_section(form: TaggedCalls, tools: Tools) -> SectionGrammar:
    outer = form.section + "\n" if form.call else form.section
    outer_end = "\n" + form.section_end if form.call else ""
    calls = tuple(
        CallGrammar(
            name,
            f"{outer}{form.call}{name}{form.name_end}\n",
            object_schema(schema),
            form.call_end + outer_end,
            fields=_tagged_fields(form, object_schema(schema)),
            strict=strict,
        )
        for name, (schema, strict) in tools.items()
    )
    return SectionGrammar(calls)


def _tagged_fields(form: TaggedCalls, schema: Mapping[str, Any]) -> tuple[FieldGrammar, ...]:
    """Names outside the schema are only allowed where it has none."""
    padding = "\n" if form.padded else ""
    gap = ("\n" if form.value else "") + form.value + padding
    end = f"{padding}{form.value_end}\n"
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or not properties:
        if schema.get("additionalProperties", True) is False:
            return ()
        return (FieldGrammar(None, form.key, None, end, name_end=form.key_end + gap),)
    required = schema.get("required") or ()
    return tuple(
        FieldGrammar(
            name,
            f"{form.key}{name}{form.key_end}{gap}",
            None if _is_text(value, schema) else _with_definitions(value, schema),
            end,
            name in required,
            choices=_choices(value, schema),
        )
        for name, value in properties.items()
    )


def _is_text(schema: Any, root: Mapping[str, Any]) -> bool:
    """Whether values may stand without quotes, so that any text is one."""
    types = json_types(schema, root)
    return not types or "string" in types


def _choices(schema: Any, root: Mapping[str, Any]) -> tuple[str, ...]:
    if json_types(schema, root) != {"string"} or not isinstance(schema.get("enum"), list):
        return ()
    return tuple(choice for choice in schema["enum"] if isinstance(choice, str) and choice)


def _pythonic_section(form: PythonicCalls, tools: Tools) -> SectionGrammar:
    calls = tuple(
        CallGrammar(
            name,
            f"{name}(",
            object_schema(schema),
            ")",
            fields=_keywords(object_schema(schema)),
            field_joint=", ",
            strict=strict,
        )
        for name, (schema, strict) in tools.items()
    )
    begin, end = ("", "") if form.bare else (form.begins[0], form.ends[0])
    return SectionGrammar(calls, begin + "[", ", ", "]" + end)


def _keywords(schema: Mapping[str, Any]) -> tuple[FieldGrammar, ...]:
    """Required ones first; the values are JSON, which the reader takes."""
    properties = schema.get("properties")
    required = schema.get("required") or ()
    fields = [
        FieldGrammar(name, f"{name}=", _with_definitions(value, schema), "", name in required)
        for name, value in (properties.items() if isinstance(properties, Mapping) else ())
        if name.isidentifier()
    ]
    return tuple(sorted(fields, key=lambda field: not field.required))


def _chained(fields: tuple[FieldGrammar, ...], joint: str) -> Format:
    """Fields in their order, with a joint between those that are there."""
    required = [f.format() for f in fields if f.required]
    others = [f.format() for f in fields if not f.required]
    row = [each for f in required for each in (f, _const(joint))][:-1]
    if required:
        return _sequence(*row, *(_optional(_sequence(_const(joint), f)) for f in others))
    chains = [
        _sequence(first, *(_optional(_sequence(_const(joint), f)) for f in others[i + 1 :]))
        for i, first in enumerate(others[:_MAX_CHAINED])
    ]
    return _optional({"type": "or", "elements": chains}) if chains else _sequence()


def object_schema(schema: Any) -> Mapping[str, Any]:
    """A schema of arguments; without one, there are none to give."""
    if not isinstance(schema, Mapping) or not schema:
        return {"type": "object", "properties": {}}
    return schema if "type" in schema else {"type": "object", **schema}


def _with_definitions(value: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """A part of a schema that can stand alone."""
    part = value if isinstance(value, Mapping) else {}
    return {**part, **{key: root[key] for key in ("$defs", "definitions") if key in root}}


def _tag(begin: str, content: Format, end: str) -> Format:
    return {"type": "tag", "begin": begin, "content": content, "end": end}


def _json(schema: Mapping[str, Any]) -> Format:
    return {"type": "json_schema", "json_schema": dict(schema)}


def _const(text: str) -> Format:
    return {"type": "const_string", "value": text}


def _sequence(*elements: Format) -> Format:
    return {"type": "sequence", "elements": list(elements) or [_const("")]}


def _optional(content: Format) -> Format:
    return {"type": "optional", "content": content}
