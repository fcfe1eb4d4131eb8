"""Structural tags: free text with constrained parts, as the JSON that vLLM's clients write too.

    call = tag("<tool_call>\\n", json_schema(schema), "\\n</tool_call>")
    structural_tag(triggered_tags(["<tool_call>"], [call]))

says "free text, but after <tool_call> comes JSON of this schema, then </tool_call>".
`structured.structural_tag` turns them into grammars.
"""

from collections.abc import Iterable, Mapping
from typing import Any

Format = dict[str, Any]


def structural_tag(outermost: Format) -> dict[str, Any]:
    """The whole, as `StructuredOutputsParams` takes it."""
    return {"type": "structural_tag", "format": outermost}


def any_text(max_chars: int | None = None) -> Format:
    """Free text: up to the text that follows it, or the end."""
    return {"type": "any_text", "max_chars": max_chars}


def const_string(value: str) -> Format:
    """Exactly this text."""
    return {"type": "const_string", "value": value}


def json_schema(schema: Mapping[str, Any]) -> Format:
    """JSON of a schema."""
    return {"type": "json_schema", "json_schema": dict(schema)}


def regex(pattern: str) -> Format:
    """Text that matches."""
    return {"type": "regex", "pattern": pattern}


def sequence(*elements: Format) -> Format:
    """One after the other; nothing, if there are none."""
    return {"type": "sequence", "elements": list(elements) or [const_string("")]}


def any_of(*elements: Format) -> Format:
    """One of them."""
    return {"type": "or", "elements": list(elements)}


def optional(content: Format) -> Format:
    """It, or nothing."""
    return {"type": "optional", "content": content}


def star(content: Format) -> Format:
    """Any number of it, or none."""
    return {"type": "star", "content": content}


def tag(begin: str, content: Format, end: str) -> Format:
    """Content between two texts, in which special tokens are meant as tokens."""
    return {"type": "tag", "begin": begin, "content": content, "end": end}


def triggered_tags(triggers: Iterable[str], tags: Iterable[Format], **how: bool) -> Format:
    """Free text in which a trigger must go on as one of the tags that begin with it.

    Args:
        how: `at_least_one`: the text begins with a tag, no free text before it.
            `stop_after_first`: the text ends with the first tag.
    """
    return {"type": "triggered_tags", "triggers": list(triggers), "tags": list(tags), **how}


def tags_with_separator(tags: Iterable[Format], separator: str, **how: bool) -> Format:
    """Tags only, with a text between two; `how` as for `triggered_tags`."""
    return {"type": "tags_with_separator", "tags": list(tags), "separator": separator, **how}
