"""The tags around reasoning, by vLLM's parser names, and which of them a template shows."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from quire.core.errors import ConfigError, nearest


@dataclass(frozen=True, slots=True)
class ReasoningFormat:
    """How a model marks its thinking.

    Attributes:
        begins, ends: tags, of which any may occur.
        always: the model thinks unless its prompt says otherwise, even where no tag opens it.
        stops: what also ends the thinking without being part of the end: a tool call begins.
        special: the tags are special tokens: decode with skip_special_tokens=False.
    """

    begins: tuple[str, ...]
    ends: tuple[str, ...]
    always: bool = False
    stops: tuple[str, ...] = ()
    special: bool = False


_THINK = ReasoningFormat(("<think>",), ("</think>",))
_ALWAYS_THINK = ReasoningFormat(("<think>",), ("</think>",), always=True)

REASONING_PARSERS: Mapping[str, ReasoningFormat] = MappingProxyType(
    {
        "deepseek_r1": _ALWAYS_THINK,
        "deepseek_v3": _THINK,
        "qwen3": _THINK,
        "glm45": _THINK,
        "olmo3": _ALWAYS_THINK,
        "minimax_m2": _ALWAYS_THINK,
        "kimi_k2": ReasoningFormat(
            ("<think>",), ("</think>",), stops=("<|tool_calls_section_begin|>",)
        ),
        "seed_oss": ReasoningFormat(("<seed:think>",), ("</seed:think>",), always=True),
        "granite": ReasoningFormat(
            ("Here is my thought process:", "Here's my thought process:"),
            ("Here is my response:", "Here's my response:"),
        ),
        "mistral": ReasoningFormat(("[THINK]",), ("[/THINK]",), special=True),
    }
)


def reasoning_format_of(name: str) -> ReasoningFormat:
    """The format by that name.

    Raises:
        ConfigError: there is none.
    """
    found = REASONING_PARSERS.get(name)
    if found is None:
        known = sorted(REASONING_PARSERS)
        raise ConfigError(
            f"unknown reasoning parser '{name}'{nearest(name, known)}; --reasoning-parser takes"
            f" {', '.join(known)}"
        )
    return found


# The first whose every text is in the template.
_SHOWN = (
    ("kimi_k2", ("</think>", "<|tool_calls_section_begin|>")),
    ("qwen3", ("</think>",)),
    ("seed_oss", ("</seed:think>",)),
    ("mistral", ("[/THINK]",)),
    ("granite", ("Here is my thought process:", "Here is my response:")),
)


def detect_reasoning_parser(chat_template: str) -> str | None:
    """The name of the parser for a model with this template; None if it shows no thinking.

    A template of a model that thinks names the tags: it writes the opening one, or cuts the
    thinking out of earlier answers. Where the template opens the thinking itself, the prompt shows
    it, so one parser serves models that always think and those that may.
    """
    for name, texts in _SHOWN:
        if all(text in chat_template for text in texts):
            return name
    return None
