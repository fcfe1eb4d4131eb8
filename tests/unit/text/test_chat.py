"""Chat templates render the same characters as `transformers`, inside bounds."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

import quire.boxed
import quire.text.template as template_module
from quire.core.errors import RequestError
from quire.text.chat import choose_template, render_chat
from quire.text.load import load_tokenizer
from quire.text.tokenizer import Tokenizer, TokenizerFacts

BOXED = Path(quire.boxed.__path__[0]) / "chat_template.jinja"

CHATML = """{% for message in messages %}{{'<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}"""

LLAMA3 = """{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not date_string is defined %}
    {%- set date_string = strftime_now("%d %b %Y") %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'
            + message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("This model only supports single tool-calls at once!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '{"name": "' + tool_call.name + '", "parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}" }}
    {%- else %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {{- message.content | tojson }}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if tools is not none %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

MISTRAL = """{{ bos_token }}{% for message in messages %}
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
{% endif %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}
{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token }}
{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}
{% endfor %}"""

GEMMA = """{{ bos_token }}{% for message in messages %}{% if message['role'] == 'assistant' %}
{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}
{{ '<start_of_turn>' + role + '
' }}{% if message['content'] is string %}{{ message['content'] | trim }}
{% elif message['content'] is iterable %}{% for item in message['content'] %}
{% if item['type'] == 'text' %}{{ item['text'] | trim }}{% endif %}{% endfor %}{% endif %}
{{ '<end_of_turn>
' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model
' }}{% endif %}"""

QWEN = """{%- if tools %}
    {{- '<|im_start|>system\\n# Tools\\n\\n<tools>' }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set reasoning_content = content.split('</think>')[0].split('<think>')[-1] %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>' + message.role }}
        {%- if loop.index0 > ns.last_query_index %}
            {{- '\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' }}
        {%- endif %}
        {% generation %}{{- '\\n' + content }}{% endgeneration %}
        {%- for tool_call in message.tool_calls or [] %}
            {%- set tool_call = tool_call.function or tool_call %}
            {{- '\\n<tool_call>\\n{"name": "' ~ tool_call.name ~ '", "arguments": ' }}
            {{- tool_call.arguments if tool_call.arguments is string
                else tool_call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
            {%- if loop.index > 1 %}{% break %}{% endif %}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {{- '<|im_start|>user\\n<tool_response>\\n' + content }}
        {{- '\\n</tool_response><|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""

TEMPLATES = {
    "chatml": CHATML,
    "llama3": LLAMA3,
    "mistral": MISTRAL,
    "gemma": GEMMA,
    "qwen": QWEN,
    "boxed": BOXED.read_text(encoding="utf-8"),
}

HELLO = {"role": "user", "content": "  Hello <b>'서울'</b> \n"}
ANSWER = {"role": "assistant", "content": "<think>hm</think>\nHi there! "}
SYSTEM = {"role": "system", "content": "Be brief & kind."}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"a": [1, "é"]}}}
CALLING = {"role": "assistant", "content": "", "tool_calls": [CALL]}
RESULT = {"role": "tool", "content": "42", "name": "f", "tool_call_id": "1"}
TOOLS = [
    {
        "type": "function",
        "function": {"name": "f", "description": "<x>", "parameters": {"type": "object"}},
    }
]

CHATS: dict[str, list[dict[str, Any]]] = {
    "one": [HELLO],
    "turns": [HELLO, ANSWER, HELLO],
    "system": [SYSTEM, HELLO],
    "reasoning": [HELLO, {**ANSWER, "reasoning_content": "because"}],
    "tools": [HELLO, CALLING, RESULT],
}


@pytest.fixture(scope="module")
def directory(tokenizer_directories: dict[str, Path]) -> Path:
    return tokenizer_directories["byte_level"]


@pytest.fixture(scope="module")
def tokenizer(directory: Path) -> Tokenizer:
    return load_tokenizer(directory)


@pytest.fixture(scope="module")
def theirs(directory: Path) -> Any:
    return AutoTokenizer.from_pretrained(directory)


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize(
    "options",
    [
        {"add_generation_prompt": True},
        {"add_generation_prompt": False, "tools": TOOLS},
        {"add_generation_prompt": False, "continue_final_message": True},
        {"add_generation_prompt": True, "date_string": "1 Jan", "enable_thinking": False},
    ],
)
def test_renders_as_transformers(
    tokenizer: Tokenizer, theirs: Any, name: str, chat: str, options: dict[str, Any]
) -> None:
    template = TEMPLATES[name]
    # Objects of its own: older versions write into the final message.
    theirs_chat = json.loads(json.dumps(CHATS[chat]))
    mine_options = dict(options)
    extra = {k: mine_options.pop(k) for k in ("date_string", "enable_thinking") if k in options}
    try:
        expected = theirs.apply_chat_template(
            theirs_chat, chat_template=template, tokenize=False, **options
        )
    except Exception:
        with pytest.raises(RequestError):
            render_chat(
                tokenizer,
                CHATS[chat],
                chat_template=template,
                template_kwargs=extra,
                **mine_options,
            )
        return
    text = render_chat(
        tokenizer, CHATS[chat], chat_template=template, template_kwargs=extra, **mine_options
    )
    assert text == expected


def test_enough_of_them_render(tokenizer: Tokenizer) -> None:
    """The comparison above is not mostly between refusals: Mistral's alone knows no system."""
    for name, template in TEMPLATES.items():
        for chat in ("one", "turns", "system"):
            if (name, chat) != ("mistral", "system"):
                assert render_chat(tokenizer, CHATS[chat], chat_template=template)


def test_content_parts(tokenizer: Tokenizer, theirs: Any) -> None:
    parts = [{"type": "text", "text": " a "}, {"type": "text", "text": "b"}]
    chat = [{"role": "user", "content": parts}]
    options: dict[str, Any] = {"add_generation_prompt": True}
    for name in ("gemma", "boxed"):  # templates that take lists get them
        assert render_chat(
            tokenizer, chat, chat_template=TEMPLATES[name], **options
        ) == theirs.apply_chat_template(
            chat, chat_template=TEMPLATES[name], tokenize=False, **options
        )
    joined = [{"role": "user", "content": " a \nb"}]
    assert render_chat(tokenizer, chat, chat_template=CHATML) == render_chat(
        tokenizer, joined, chat_template=CHATML
    )
    others = [{"type": "input_text", "text": " a "}, {"type": "refusal", "refusal": "b"}]
    chat = [{"role": "user", "content": others}]
    assert render_chat(tokenizer, chat, chat_template=CHATML) == render_chat(
        tokenizer, joined, chat_template=CHATML
    )
    text = render_chat(
        tokenizer, [HELLO], chat_template="{{ messages | tojson }}", content_format="openai"
    )
    assert json.loads(text)[0]["content"] == [{"type": "text", "text": HELLO["content"]}]


def test_functions_as_tools(tokenizer: Tokenizer, theirs: Any) -> None:
    def add(a: int, b: int) -> int:
        """Add two numbers.

        Args:
            a: the first
            b: the second
        """
        return a + b

    assert render_chat(
        tokenizer, [HELLO], chat_template=QWEN, tools=[add], add_generation_prompt=False
    ) == theirs.apply_chat_template([HELLO], chat_template=QWEN, tools=[add], tokenize=False)
    with pytest.raises(RequestError, match="tool must be a JSON schema or a function, got int"):
        render_chat(tokenizer, [HELLO], chat_template=QWEN, tools=[3])


def test_json_arguments_are_parsed(tokenizer: Tokenizer) -> None:
    function = {"name": "f", "arguments": '{"a": [1, "é"]}'}
    chat = [HELLO, {**CALLING, "tool_calls": [{**CALL, "function": function}]}, RESULT]
    assert render_chat(tokenizer, chat, chat_template=QWEN) == render_chat(
        tokenizer, CHATS["tools"], chat_template=QWEN
    )
    function["arguments"] = '{"a": '  # what a model wrote before it was cut off
    assert '"arguments": {"a": }' in render_chat(tokenizer, chat, chat_template=QWEN)
    del function["arguments"]  # a call without any
    assert '"arguments": {}' in render_chat(tokenizer, chat, chat_template=QWEN)


def test_bad_arguments_for_a_template_that_goes_through_them(tokenizer: Tokenizer) -> None:
    template = (
        "{% for m in messages %}{% for c in m.tool_calls or [] %}"
        "{% for k, v in c.function.arguments|items %}<{{ k }}>{{ v }}{% endfor %}"
        "{% endfor %}{% endfor %}"
    )
    function = {"name": "f", "arguments": '{"a": '}
    chat = [HELLO, {**CALLING, "tool_calls": [{**CALL, "function": function}]}, RESULT]
    assert render_chat(tokenizer, chat, chat_template=template) == '<arguments>{"a": '
    function["arguments"] = '{"a": 1}'
    assert render_chat(tokenizer, chat, chat_template=template) == "<a>1"


def with_template(tokenizer: Tokenizer, template: Any) -> Tokenizer:
    facts = TokenizerFacts("some/model", {}, template)
    return Tokenizer(facts, backend=tokenizer._backend, load_hf=lambda: None)


def test_which_template(tokenizer: Tokenizer, tmp_path: Path) -> None:
    named = with_template(tokenizer, {"default": "{D}", "tool_use": "{T}", "rag": "{R}"})
    assert choose_template(named, None, with_tools=False) == "{D}"
    assert choose_template(named, None, with_tools=True) == "{T}"
    assert choose_template(named, "rag", with_tools=True) == "{R}"
    assert choose_template(named, "{{ x }}", with_tools=False) == "{{ x }}"
    file = tmp_path / "t.jinja"
    file.write_text("{{ y }}")
    assert choose_template(with_template(tokenizer, None), str(file), False) == "{{ y }}"
    with pytest.raises(RequestError, match=r"'some/model' has no chat template.*--chat-template"):
        choose_template(with_template(tokenizer, None), None, False)
    with pytest.raises(RequestError, match=r"several chat templates and no default.*a, b"):
        choose_template(with_template(tokenizer, {"b": "", "a": ""}), None, False)
    with pytest.raises(RequestError, match=r"nofile\.jinja.*No such file"):
        choose_template(named, "nofile.jinja", False)


@pytest.mark.parametrize(
    ("messages", "match"),
    [
        ([], "messages is empty"),
        ("hello", "must be a list"),
        ({"role": "user"}, "must be a list"),
        (["hello"], r"messages\[0\] must be a dict, got str"),
        ([HELLO, {"content": "x"}], r"messages\[1\] has no 'role'"),
        ([{"role": "user", "content": 3}], "string or a list of parts, got int"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "'image_url'; only text"),
        ([{"role": "user", "content": [{"type": "text"}]}], "without 'text'"),
        ([{"role": "assistant", "tool_calls": ["x"]}], "malformed entry in 'tool_calls'"),
    ],
)
def test_malformed_messages(tokenizer: Tokenizer, messages: Any, match: str) -> None:
    with pytest.raises(RequestError, match=match):
        render_chat(tokenizer, messages, chat_template=CHATML)


def test_continuing_is_refused_clearly(tokenizer: Tokenizer) -> None:
    with pytest.raises(RequestError, match="exclude each other"):
        render_chat(
            tokenizer,
            [HELLO],
            chat_template=CHATML,
            add_generation_prompt=True,
            continue_final_message=True,
        )
    for chat, template in (
        ([{"role": "assistant", "tool_calls": [CALL]}], CHATML),
        ([HELLO], "{{ messages[0].content[:3] }}"),
    ):
        with pytest.raises(RequestError, match="continue_final_message"):
            render_chat(
                tokenizer,
                chat,
                chat_template=template,
                add_generation_prompt=False,
                continue_final_message=True,
            )


@pytest.mark.parametrize(
    ("template", "match"),
    [
        ("{{ raise_exception('No dogs allowed') }}", "No dogs allowed"),
        ("{% for x in messages %}", "does not parse: line 1"),
        ("{{ messages[0].content + 1 }}", "TypeError"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe|not safe"),
        ("{{ namespace(_x=1) }}", "_x"),
        ("{{ 'x' * 999999999 }}", "too long"),
        ("{{ 9 ** 99999 }}", "too large"),
        ("{% for i in range(999999999) %}{% endfor %}", "Range too big"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "RecursionError"),
    ],
)
def test_hostile_templates(tokenizer: Tokenizer, template: str, match: str) -> None:
    with pytest.raises(RequestError, match=match) as caught:
        render_chat(tokenizer, [HELLO], chat_template=template)
    assert "\n" not in str(caught.value)


def test_rendering_is_bounded(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_module, "MAX_RENDERED_CHARACTERS", 1000)
    with pytest.raises(RequestError, match="more than 1000 characters"):
        render_chat(tokenizer, [HELLO], chat_template="{% for i in range(999) %}{{i}}{% endfor %}")
    monkeypatch.setattr(template_module, "MAX_RENDER_SECONDS", 0.05)
    loops = "{% for i in range(9999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    with pytest.raises(RequestError, match=r"took more than 0\.05 s"):
        render_chat(tokenizer, [HELLO], chat_template=loops)
