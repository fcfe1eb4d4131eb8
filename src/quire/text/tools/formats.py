"""The formats of tool calls by vLLM's parser names. A format is a row of tags over one of four
kinds: JSON, name and JSON, markup, Python. Each kind knows how to read calls, leniently, and how a
grammar must write them, with the line breaks that chat templates show models.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Protocol

from quire.text.tools.calls import CallWriter
from quire.text.tools.formats_json import JsonCalls
from quire.text.tools.formats_named import NamedCalls
from quire.text.tools.formats_pythonic import PythonicCalls
from quire.text.tools.formats_tagged import TaggedCalls
from quire.text.tools.reader import Reader, Steps
from quire.text.tools.ways import Tools, Way


class ToolFormat(Protocol):
    """How a model writes its calls."""

    @property
    def triggers(self) -> tuple[str, ...]:
        """What announces a call anywhere in the text."""

    @property
    def bare(self) -> str:
        """Characters that announce a call at the very start of the text."""

    @property
    def special(self) -> bool:
        """The tags are special tokens: decode with skip_special_tokens=False."""

    def read(self, reader: Reader, calls: CallWriter, trigger: str) -> Steps[None]:
        """Reads calls from behind the trigger (empty: a bare one, not consumed).

        Raises:
            MalformedCall: what follows is none.
        """

    def ways(self, tools: Tools, chat_template: str) -> Iterable[Way]:
        """Each way calls of these tools may be written; the template may narrow them."""


_HERMES = JsonCalls(("<tool_call>",), ("</tool_call>",), padding="\n")
_LLAMA_JSON = JsonCalls(
    ("<|python_tag|>", "<|python_start|>"),
    ("", "<|python_end|>"),
    bare="{",
    special=True,
    argument_key="parameters",
    separator="; ",
)
_TOOL_CALLS = JsonCalls(("<tool_calls>",), ("</tool_calls>",), padding="\n", listed=True)
_QWEN_CODER = TaggedCalls(
    section="<tool_call>",
    call="<function=",
    name_end=">",
    key="<parameter=",
    key_end=">",
    value_end="</parameter>",
    call_end="</function>",
    section_end="</tool_call>",
    padded=True,
)
_PYTHONIC = PythonicCalls(("<|python_tag|>", "<|python_start|>"), ("", "<|python_end|>"))

TOOL_PARSERS: Mapping[str, ToolFormat] = MappingProxyType(
    {
        "hermes": _HERMES,
        "longcat": JsonCalls(("<longcat_tool_call>",), ("</longcat_tool_call>",), padding="\n"),
        "llama3_json": _LLAMA_JSON,
        "llama4_json": _LLAMA_JSON,
        "granite": JsonCalls(
            ("<|tool_call|>", "<tool_call>"), ("", "</tool_call>"), special=True, listed=True
        ),
        "granite4": _HERMES,
        "phi4_mini_json": JsonCalls(
            ("functools", "<|tool_call|>"), ("", "<|/tool_call|>"), special=True, listed=True
        ),
        "jamba": _TOOL_CALLS,
        "hunyuan_a13b": _TOOL_CALLS,
        "internlm": JsonCalls(
            ("<|action_start|><|plugin|>",),
            ("<|action_end|>",),
            special=True,
            argument_key="parameters",
            padding="\n",
        ),
        # For models without a format of their own, made to call by a grammar.
        "json": JsonCalls((), bare="[{", listed=True),
        "mistral": NamedCalls("[TOOL_CALLS]", call_id="[CALL_ID]", arguments="[ARGS]", listed=True),
        "deepseek_v3": NamedCalls(
            "<｜tool▁call▁begin｜>",
            section="<｜tool▁calls▁begin｜>",
            section_end="<｜tool▁calls▁end｜>",
            kind="function<｜tool▁sep｜>",
            arguments="```json",
            call_ends=("```", "<｜tool▁call▁end｜>"),
            padding="\n",
        ),
        "deepseek_v31": NamedCalls(
            "<｜tool▁call▁begin｜>",
            section="<｜tool▁calls▁begin｜>",
            section_end="<｜tool▁calls▁end｜>",
            arguments="<｜tool▁sep｜>",
            call_ends=("<｜tool▁call▁end｜>",),
        ),
        "kimi_k2": NamedCalls(
            "<|tool_call_begin|>",
            section="<|tool_calls_section_begin|>",
            section_end="<|tool_calls_section_end|>",
            arguments="<|tool_call_argument_begin|>",
            call_ends=("<|tool_call_end|>",),
            counted=True,
        ),
        "qwen3_coder": _QWEN_CODER,
        "seed_oss": replace(
            _QWEN_CODER, section="<seed:tool_call>", section_end="</seed:tool_call>"
        ),
        "glm45": TaggedCalls(
            section="<tool_call>",
            key="<arg_key>",
            key_end="</arg_key>",
            value="<arg_value>",
            value_end="</arg_value>",
            call_end="</tool_call>",
        ),
        "minimax_m2": TaggedCalls(
            section="<minimax:tool_call>",
            call='<invoke name="',
            name_end='">',
            key='<parameter name="',
            key_end='">',
            value_end="</parameter>",
            call_end="</invoke>",
            section_end="</minimax:tool_call>",
        ),
        "pythonic": _PYTHONIC,
        "llama4_pythonic": replace(_PYTHONIC, special=True),
        "lfm2": PythonicCalls(
            ("<|tool_call_start|>",), ("<|tool_call_end|>",), bare="", special=True
        ),
    }
)
TOOL_PARSER_ALIASES: Mapping[str, str] = MappingProxyType(
    {"qwen3_json": "hermes", "qwen3_xml": "qwen3_coder", "glm47": "glm45"}
)
