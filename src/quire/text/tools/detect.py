"""Which tool parser a model needs, read from its chat template.

A template shows how the model writes calls, because it writes those of earlier messages the same
way. Two formats at once, or none: no answer.
"""

import re
from collections.abc import Iterable

_NOT_HERMES = r"<function=|<arg_key>|<parameter=|<\|tool_call\|>"
_NOT_LLAMA = r"<tool_call>|\[TOOL_CALLS\]|<\|plugin\|>|<\|tool_call\|>|<tool_calls>"
# Parser, the markers that templates of this format alone have all of, and what none of them has.
_MARKERS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("deepseek_v3", (r"<｜tool▁call▁begin｜>", r"```json"), ""),
    ("deepseek_v31", (r"<｜tool▁call▁begin｜>", r"<｜tool▁sep｜>"), r"```json"),
    ("kimi_k2", (r"<\|tool_call_argument_begin\|>",), ""),
    ("mistral", (r"\[TOOL_CALLS\]",), ""),
    ("qwen3_coder", (r"<tool_call>", r"<function=", r"<parameter="), ""),
    ("seed_oss", (r"<seed:tool_call>",), ""),
    ("glm45", (r"<tool_call>", r"<arg_key>", r"<arg_value>"), ""),
    ("minimax_m2", (r"minimax:tool_call", r"<invoke name="), ""),
    ("longcat", (r"<longcat_tool_call>",), ""),
    ("hermes", (r"<tool_call>", r"\barguments\b"), _NOT_HERMES),
    ("granite", (r"<\|tool_call\|>", r"<\|start_of_role\|>"), ""),
    ("phi4_mini_json", (r"<\|/tool\|>|\bfunctools\b",), ""),
    ("jamba", (r"<tool_calls>",), ""),
    ("internlm", (r"<\|plugin\|>", r"<\|action_start\|>"), ""),
    ("lfm2", (r"<\|tool_list_start\|>|<\|tool_call_start\|>",), ""),
    ("llama3_json", (r'"name": function name, "parameters": dict|"parameters": ',), _NOT_LLAMA),
    ("pythonic", (r"\[func_name1\(params_name1=",), ""),
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
    found = {
        parser
        for parser, present, absent in _MARKERS
        if all(re.search(marker, chat_template) for marker in present)
        and not (absent and re.search(absent, chat_template))
    }
    if not found:
        found = {_TOKENS[token] for token in special_tokens if token in _TOKENS}
    return found.pop() if len(found) == 1 else None
