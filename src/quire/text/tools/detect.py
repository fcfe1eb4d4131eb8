"""Which tool parser a model needs, read from its chat template.

A template shows how the model writes calls, because it writes those of earlier messages the same
way. Each row below is a set of markers that only templates of one format have. Two formats at
once, or none: no answer.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Markers:
    """All of `present` occur, none of `absent` does; regular expressions."""

    parser: str
    present: tuple[str, ...]
    absent: tuple[str, ...] = ()

    def match(self, template: str) -> bool:
        return all(re.search(p, template) for p in self.present) and not any(
            re.search(p, template) for p in self.absent
        )


_MARKUP = r"<function=|<arg_key>|<parameter="
_ROWS = (
    _Markers("deepseek_v3", (r"<｜tool▁call▁begin｜>", r"```json")),
    _Markers("deepseek_v31", (r"<｜tool▁call▁begin｜>", r"<｜tool▁sep｜>"), (r"```json",)),
    _Markers("kimi_k2", (r"<\|tool_call_argument_begin\|>",)),
    _Markers("mistral", (r"\[TOOL_CALLS\]",)),
    _Markers("qwen3_coder", (r"<tool_call>", r"<function=", r"<parameter=")),
    _Markers("seed_oss", (r"<seed:tool_call>",)),
    _Markers("glm45", (r"<tool_call>", r"<arg_key>", r"<arg_value>")),
    _Markers("minimax_m2", (r"<minimax:tool_call>|minimax:tool_call", r"<invoke name=")),
    _Markers("longcat", (r"<longcat_tool_call>",)),
    _Markers("hermes", (r"<tool_call>", r"\barguments\b"), (_MARKUP, r"<\|tool_call\|>")),
    _Markers("granite", (r"<\|tool_call\|>", r"<\|start_of_role\|>")),
    _Markers("phi4_mini_json", (r"<\|/tool\|>|\bfunctools\b",)),
    _Markers("jamba", (r"<tool_calls>",)),
    _Markers("internlm", (r"<\|plugin\|>", r"<\|action_start\|>")),
    _Markers("lfm2", (r"<\|tool_list_start\|>|<\|tool_call_start\|>",)),
    _Markers(
        "llama3_json",
        (r"\{\"name\": function name, \"parameters\": dictionary|\"parameters\": ",),
        (r"<tool_call>|\[TOOL_CALLS\]|<\|plugin\|>|<\|tool_call\|>|<tool_calls>",),
    ),
    _Markers("pythonic", (r"\[func_name1\(params_name1=",)),
)

# Where the template shows no calls, a token that exists for nothing else.
_TOKENS = {
    "[TOOL_CALLS]": "mistral",
    "<|tool_calls_section_begin|>": "kimi_k2",
    "<|tool_call_start|>": "lfm2",
}


def detect_tool_parser(chat_template: str, special_tokens: Iterable[str] = ()) -> str | None:
    """The name of the parser for a model with this template, where it is unambiguous.

    Args:
        special_tokens: texts of the tokenizer's special tokens; they decide where the template
            takes tools without showing how they are called.
    """
    if "tool" not in chat_template:
        return None
    found = {row.parser for row in _ROWS if row.match(chat_template)}
    if not found:
        found = {_TOKENS[token] for token in special_tokens if token in _TOKENS}
    return found.pop() if len(found) == 1 else None
