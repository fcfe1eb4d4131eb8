"""The parser from the chat template: short templates with the marks of real ones."""

from pathlib import Path

import pytest

import quire.boxed
from quire.text.tools.detect import detect_tool_parser
from quire.text.tools.formats import TOOL_PARSERS

BOXED = (Path(quire.boxed.__path__[0]) / "chat_template.jinja").read_text(encoding="utf-8")

TEMPLATES = [
    ("hermes", BOXED),
    (  # Qwen 2.5 and 3, Hermes
        "hermes",
        (
            "{%- if tools %}{{- '<tools>' }}{{ tools | tojson }}{{- '\\nFor each"
            " function call, return a"
            " json object with function name and arguments within <tool_call>"
            "</tool_call> XML tags:\\n"
            '<tool_call>\\n{"name": <function-name>, "arguments": '
            "<args-json-object>}\\n</tool_call>'"
            " }}{%- endif %}"
        ),
    ),
    (  # Qwen3-Coder, Qwen3.5
        "qwen3_coder",
        (
            "{{- '\\n\\nIf you choose to call a function ONLY reply in the following format with NO"
            " suffix:\\n\\n<tool_call>\\n<function=example_function_name>\\n<parameter="
            "example_parameter_1>\\nvalue_1\\n</parameter>\\n</function>\\n</tool_call>' }}"
            "{{- '\\n<tool_call>\\n<function=' + tool_call.name + '>\\n' }}{{"
            " tool_call.arguments }}"
        ),
    ),
    (  # Llama 3.1 to 3.3
        "llama3_json",
        (
            '{{- "Environment: ipython\\n" }}{%- if builtin_tools is defined %}<|python_tag|>'
            "{% endif %}"
            '{{- \'Respond in the format {"name": function name, "parameters":'
            " dictionary of argument"
            " name and its value}.' }}{{- '{\"name\": \"' + tool_call.name + '\", ' }}"
            "{{- '\"parameters\": ' }}{{- tool_call.arguments | tojson }}"
        ),
    ),
    (  # Mistral 7B Instruct v0.3
        "mistral",
        (
            '{{- "[AVAILABLE_TOOLS] [" }}{% for tool in tools %}{% endfor %}{{- "[TOOL_CALLS] [" }}'
            "{{- tool_call.function|tojson }}"
        ),
    ),
    (  # Mistral Small 3.2
        "mistral",
        "{{- '[TOOL_CALLS]' + name + '[ARGS]' + arguments }}{% if tools %}{% endif %}",
    ),
    (
        "deepseek_v3",
        (
            "{{'<｜Assistant｜><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>' + tool['type'] +"
            " '<｜tool▁sep｜>' + tool['function']['name'] + '\\n' + '```json' + '\\n' +"
            " tool['function']['arguments'] + '\\n' + '```' + '<｜tool▁call▁end｜>'}}"
        ),
    ),
    (
        "deepseek_v31",
        (
            "{{'<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>'+ tool['function']['name'] +"
            " '<｜tool▁sep｜>' + tool['function']['arguments'] + '<｜tool▁call▁end｜>'}}"
        ),
    ),
    (
        "kimi_k2",
        (
            "<|tool_calls_section_begin|>{% for tool_call in m['tool_calls'] %}<|tool_call_begin|>"
            "{{ tool_call['id'] }}<|tool_call_argument_begin|>{{ tool_call.function.arguments }}"
            "<|tool_call_end|>{% endfor %}<|tool_calls_section_end|>"
        ),
    ),
    (
        "glm45",
        (
            "For each function call, output the function name and arguments within"
            " the following XML"
            " format:\n<tool_call>{function-name}\n<arg_key>{arg-key-1}</arg_key>\n<arg_value>"
            "{arg-value-1}</arg_value>\n</tool_call>{% for tc in m.tool_calls %}{% endfor %}"
        ),
    ),
    (
        "minimax_m2",
        (
            "{%- set toolcall_begin_token = '<minimax:tool_call>' -%}{{ tools }}"
            "<invoke name=\"' + tool_call.name + '\">"
        ),
    ),
    ("seed_oss", "<seed:tool_call>\n<function=example>\n<parameter=a>x</parameter>{{ tools }}"),
    (
        "granite",
        (
            "{{- '<|start_of_role|>tools<|end_of_role|>' + tools | tojson }} When a"
            " tool is required to"
            " answer, respond only with <|tool_call|> followed by a JSON list of tools used."
        ),
    ),
    (  # Granite 4
        "hermes",
        (
            "{{ '<|start_of_role|>' }}return a json object with function name and arguments within"
            ' <tool_call></tool_call>: <tool_call>\\n{"name": 1, "arguments": 2}\\n</tool_call>'
        ),
    ),
    (  # Phi-4-mini
        "phi4_mini_json",
        (
            "{{ '<|' + message['role'] + '|>' + message['content'] + '<|tool|>' +"
            " message['tools'] +"
            " '<|/tool|>' + '<|end|>' }}"
        ),
    ),
    ("jamba", "{{ '<tool_calls>[\\n' }}{{ tool_call }}{{ ']</tool_calls>' }}{{ tools }}"),
    ("internlm", "<|action_start|><|plugin|>\n{{ message.tool_calls }}<|action_end|>"),
    ("lfm2", "List of tools: <|tool_list_start|>[{{ tools }}]<|tool_list_end|>"),
    (
        "pythonic",
        (
            "You MUST put it in the format of [func_name1(params_name1=params_value1,"
            " params_name2=params_value2...), func_name2(params)]{{ tools }}"
        ),
    ),
]

NONE = [
    "{% for message in messages %}{{ message.role }}: {{ message.content }}{% endfor %}",
    "{% if tools %}{{ tools | tojson }}{% endif %}",  # takes tools, shows no calls
    "",
    TEMPLATES[1][1] + TEMPLATES[4][1],  # two formats
]


@pytest.mark.parametrize(("expected", "template"), TEMPLATES)
def test_known_templates(expected: str, template: str) -> None:
    assert detect_tool_parser(template) == expected
    assert expected in TOOL_PARSERS


@pytest.mark.parametrize("template", NONE)
def test_no_answer_in_doubt(template: str) -> None:
    assert detect_tool_parser(template) is None


def test_special_tokens_decide_where_the_template_does_not() -> None:
    silent = NONE[1]
    assert detect_tool_parser(silent, ["<s>", "[TOOL_CALLS]"]) == "mistral"
    assert detect_tool_parser(silent, ["[TOOL_CALLS]", "<|tool_call_start|>"]) is None
    assert detect_tool_parser(NONE[0], ["[TOOL_CALLS]"]) is None  # takes no tools at all
    assert detect_tool_parser(BOXED, ["[TOOL_CALLS]"]) == "hermes"
