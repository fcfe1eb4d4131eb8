"""Putting constraints together: the form of an answer, its reasoning, and its tool calls."""

from dataclasses import replace
from typing import Any

from quire.core.structured_outputs import StructuredOutputsParams
from quire.structured.tags import after_text, any_of, any_text, sequence, structural_tag, tag
from quire.text.reasoning.formats import reasoning_format_of
from quire.text.reasoning.parser import prompt_state


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
    late = after_text(tags.ends[0], params)
    if state == "open" or tags.always:
        return late
    # Nobody knows whether it thinks: the opening tag says so.
    thought: dict[str, Any] = {
        "type": "optional",
        "content": tag(tags.begins[0], any_text(), tags.ends[0]),
    }
    return replace(late, structural_tag=structural_tag(sequence(thought, _format_of(late))))


def either(
    first: StructuredOutputsParams, second: StructuredOutputsParams
) -> StructuredOutputsParams:
    """One or the other; how JSON is written is the first's to say."""
    formats = [_format_of(after_text(".", each)) for each in (first, second)]
    return replace(after_text(".", first), structural_tag=structural_tag(any_of(*formats)))


def _format_of(late: StructuredOutputsParams) -> dict[str, Any]:
    """What follows the text that `after_text` puts in front."""
    assert isinstance(late.structural_tag, dict)
    *_, wanted = late.structural_tag["format"]["elements"]
    found: dict[str, Any] = wanted
    return found


def shows_special_tokens(parser: str | None) -> bool:
    """Whether a reasoning parser looks for special tokens, which must then be in the text."""
    return parser is not None and reasoning_format_of(parser).special
