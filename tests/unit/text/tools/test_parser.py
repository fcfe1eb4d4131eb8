"""Tool calls out of streamed text: every format, any split, nothing lost, nothing held for long."""

import itertools
import json
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quire.core.errors import ConfigError
from quire.text.tools.events import (
    ContentDelta,
    ParsedText,
    ToolCall,
    ToolCallArguments,
    ToolCallStart,
    ToolEvent,
    assemble,
)
from quire.text.tools.formats import TOOL_PARSERS
from quire.text.tools.parser import ToolParser, tool_format_of

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer"},
                "exact": {"type": ["boolean", "null"]},
                "where": {"type": "object"},
                "unit": {"enum": ["C", "F"]},
                "code": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
            },
        },
    },
}
TIME = {"type": "function", "function": {"name": "time", "parameters": {}}}
TOOLS = [WEATHER, TIME]

SEOUL = ("weather", {"city": "Seoul", "days": 2})
NOW = ("time", {})

# format, text, content, calls
GOOD: list[tuple[str, str, str, list[tuple[str, dict[str, object]]]]] = [
    (
        "hermes",
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Seoul", "days": 2}}\n</tool_call>',
        "",
        [SEOUL],
    ),
    (
        "hermes",
        (
            'Let me look. \n\n<tool_call>{"arguments":{"city": "Seoul", "days": 2},"id":[1],'
            '"name":"weather"}</tool_call>\n<tool_call>\n{"name": "time"}\n</tool_call>\n'
        ),
        "Let me look.",
        [SEOUL, NOW],
    ),
    (
        "hermes",
        'A <tool_call>{"name": "time", "arguments": null} </tool_call>\nB < C',
        "A\nB < C",
        [NOW],
    ),
    (
        "hermes",  # arguments as text, and no end
        '<tool_call>{"name": "weather", "arguments": "{\\"city\\": \\"Seoul\\", \\"days\\": 2}"}',
        "",
        [SEOUL],
    ),
    (
        "hermes",  # control characters in strings
        '<tool_call>{"name": "weather", "arguments": {"city": "a\n\tb"}}</tool_call>',
        "",
        [("weather", {"city": "a\n\tb"})],
    ),
    (
        "hermes",
        (
            '<tool_call>{"name": "time", "arguments": {"x": [1e5, -0.5, true,'
            ' "\\ud83d\\ude00"]}}'
            "</tool_call>"
        ),
        "",
        [("time", {"x": [1e5, -0.5, True, "😀"]})],
    ),
    (
        "llama3_json",
        (
            '{"name": "weather", "parameters": {"city": "Seoul", "days": 2}}; {"name": "time",'
            ' "parameters": {}}'
        ),
        "",
        [SEOUL, NOW],
    ),
    (
        "llama3_json",
        (
            '<|python_tag|>{"type": "function", "name": "weather", "parameters": {"city": "Seoul",'
            ' "days": 2}}\n{"name": "time", "parameters": {}};'
        ),
        "",
        [SEOUL, NOW],
    ),
    (
        "mistral",
        (
            'Well [TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Seoul", "days": 2}},'
            ' {"name": "time", "arguments": {}}]'
        ),
        "Well",
        [SEOUL, NOW],
    ),
    (
        "mistral",
        '[TOOL_CALLS]weather{"city": "Seoul", "days": 2}[TOOL_CALLS]time[ARGS]{}',
        "",
        [SEOUL, NOW],
    ),
    (
        "pythonic",
        "[weather(city='Seoul', days=2), time()]",
        "",
        [SEOUL, NOW],
    ),
    (
        "pythonic",
        (
            '<|python_start|>[weather(city="a)\'\\"", where={"x": [None, -1.5,'
            " (true,)]}, exact=False,"
            ' code="""q"q\n""")]<|python_end|>'
        ),
        "",
        [
            (
                "weather",
                {
                    "city": "a)'\"",
                    "where": {"x": [None, -1.5, [True]]},
                    "exact": False,
                    "code": 'q"q\n',
                },
            )
        ],
    ),
    ("lfm2", "x <|tool_call_start|>[time()]<|tool_call_end|> y", "x y", [NOW]),
    (
        "qwen3_coder",
        (
            "I will.\n<tool_call>\n<function=weather>\n<parameter=city>\nSeoul\n</parameter>\n"
            "<parameter=days>\n2\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n"
            "<function=time>\n</function>\n</tool_call>"
        ),
        "I will.",
        [SEOUL, NOW],
    ),
    (
        "qwen3_coder",  # without the outer tag; values of many types
        (
            '<function=weather><parameter=city>\n\n if a < b:\n\t"</p>"\n\n</parameter>'
            "<parameter=exact>True</parameter><parameter=where>{'a': 1}</parameter>"
            "<parameter=code>12</parameter><parameter=days>many</parameter>"
            "<parameter=other>3</parameter></function>"
        ),
        "",
        [
            (
                "weather",
                {
                    "city": '\n if a < b:\n\t"</p>"\n',
                    "exact": True,
                    "where": {"a": 1},
                    "code": 12,
                    "days": "many",
                    "other": "3",
                },
            )
        ],
    ),
    (
        "glm45",
        (
            "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Seoul</arg_value>\n"
            "<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n</tool_call>\n<tool_call>time\n"
            "</tool_call>"
        ),
        "",
        [SEOUL, NOW],
    ),
    (
        "minimax_m2",
        (
            '<minimax:tool_call>\n<invoke name="weather">\n<parameter'
            ' name="city">Seoul</parameter>\n'
            '<parameter name="days">2</parameter>\n</invoke>\n<invoke name="time">\n</invoke>\n'
            "</minimax:tool_call>"
        ),
        "",
        [SEOUL, NOW],
    ),
    (
        "deepseek_v3",
        (
            "ok<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n"
            '{"city": "Seoul", "days": 2}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function'
            "<｜tool▁sep｜>time\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
        ),
        "ok",
        [SEOUL, NOW],
    ),
    (
        "deepseek_v31",
        (
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>"
            '{"city": "Seoul", "days": 2}<｜tool▁call▁end｜><｜tool▁call▁begin｜>time'
            "<｜tool▁sep｜>{}"
            "<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
        ),
        "",
        [SEOUL, NOW],
    ),
    (
        "kimi_k2",
        (
            "<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0"
            '<|tool_call_argument_begin|>{"city": "Seoul", "days": 2}<|tool_call_end|>'
            "<|tool_call_begin|>functions.time:1<|tool_call_argument_begin|>{}<|tool_call_end|>"
            "<|tool_calls_section_end|>"
        ),
        "",
        [SEOUL, NOW],
    ),
    (
        "granite",
        '<|tool_call|>[{"name": "weather", "arguments": {"city": "Seoul", "days": 2}}]',
        "",
        [SEOUL],
    ),
    (
        "phi4_mini_json",
        'functools[{"name": "weather", "arguments": {"city": "Seoul", "days": 2}}]',
        "",
        [SEOUL],
    ),
    (
        "jamba",
        (
            '<tool_calls>[\n{"name": "weather", "arguments": {"city": "Seoul", "days": 2}}\n]'
            "</tool_calls>"
        ),
        "",
        [SEOUL],
    ),
    (
        "internlm",
        (
            'Sure<|action_start|><|plugin|>\n{"name": "weather", "parameters": {"city": "Seoul",'
            ' "days": 2}}<|action_end|>'
        ),
        "Sure",
        [SEOUL],
    ),
    (
        "json",
        '[{"name": "weather", "arguments": {"city": "Seoul", "days": 2}}]',
        "",
        [SEOUL],
    ),
]

# format, text that is content as it stands, though it looks like a call
BAD = [
    ("hermes", "<tool_call>"),
    ("hermes", " <tool_call>\n\n"),
    ("hermes", "a <tool_call> b </tool_call> c\n"),
    ("hermes", '<tool_call>\n{"name": "weather", "arguments": {"a": }}\n</tool_call>'),
    ("hermes", '<tool_call>\n{"name": "weather", "arguments": {"a": 1}'),
    ("hermes", '<tool_call>{"name": "weather", "arguments": {"a": 1},}</tool_call>'),
    ("hermes", '<tool_call>{"name": "weather", "arguments": [1]}</tool_call>'),
    ("hermes", '<tool_call>{"name": "weather", "arguments": "[1]"}</tool_call>'),
    ("hermes", '<tool_call>{"name": "weather", "arguments": "{"}</tool_call>'),
    ("hermes", '<tool_call>{"name": 3, "arguments": {}}</tool_call>'),
    ("hermes", '<tool_call>{"arguments": {}}</tool_call>'),
    ("hermes", '<tool_call>{"name": "f", "arguments": {"a": 01}}</tool_call>'),
    ("hermes", '<tool_call>{"name": "f", "arguments": {"a": "\\x"}}</tool_call>'),
    ("hermes", '<tool_call>{"name": "f", "arguments": {"a": True}}</tool_call>'),
    ("hermes", '<tool_call>{"name": "f", "arguments": {"a": ' + "[" * 500),
    ("hermes", "1 < 2 <tool <tool_cal"),
    ("llama3_json", '{"name": "Bob", "parameters": {}}'),
    ("llama3_json", '{"name": "weather"}'),
    ("llama3_json", '{"answer": 42}'),
    ("llama3_json", 'Use {"name": "time", "parameters": {}}'),
    ("llama3_json", '<|python_tag|>brave_search.call(query="x")'),
    ("mistral", "[TOOL_CALLS]"),
    ("mistral", "[TOOL_CALLS] [1, 2]"),
    ("mistral", "[TOOL_CALLS]weather{"),
    ("mistral", "[TOOL_CALLS]weather and more"),
    ("pythonic", "[1, 2, 3]"),
    ("pythonic", "[weather](http://x)"),
    ("pythonic", "[weather(city)]"),
    ("pythonic", "[weather(city=open('x').read())]"),
    ("pythonic", "[weather(**{'a': 1})]"),
    ("pythonic", "[weather(a=b'x')]"),
    ("pythonic", "[weather(a=1e999)]"),
    ("pythonic", "[weather(a=" + "-" * 5000 + "1)]"),
    ("pythonic", "[weather(a=1]"),
    ("pythonic", "[unknown(a=1)]"),
    ("pythonic", "see [time()]"),
    ("qwen3_coder", "<tool_call>\n<function=weather>\n<parameter=city>\nSeoul\n"),
    ("qwen3_coder", "<tool_call><function=weather>text</function></tool_call>"),
    ("qwen3_coder", "<function=>"),
    ("glm45", "<tool_call>weather is nice</tool_call>"),
    ("deepseek_v3", "<｜tool▁calls▁begin｜>x"),
    ("deepseek_v3", "<｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n[]\n```"),
    ("kimi_k2", "<|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>nothing"),
    ("granite", "<|tool_call|>[]"),
    ("json", "[]"),
    ("json", '{"a": 1}'),
]


def parser(name: str, bound: bool = False, **options: bool) -> ToolParser:
    return ToolParser(
        name, TOOLS, bound=bound, new_id=lambda tool, index: f"{tool}-{index}", **options
    )


def stream(made: ToolParser, deltas: list[str]) -> list[ToolEvent]:
    events = [event for delta in deltas for event in made.feed(delta)]
    return [*events, *made.finish()]


def parse_whole(made: ToolParser, text: str) -> ParsedText:
    return assemble(stream(made, [text]))


def pieces(text: str, cuts: list[int]) -> list[str]:
    places = [0, *sorted({cut % (len(text) + 1) for cut in cuts}), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(places)]


def found(parsed: ParsedText) -> tuple[str, list[tuple[str, dict[str, object]]]]:
    return parsed.content, [(c.name, json.loads(c.arguments)) for c in parsed.tool_calls]


@pytest.mark.parametrize("bound", [False, True])
@pytest.mark.parametrize(("name", "text", "content", "calls"), GOOD)
def test_calls(
    name: str, text: str, content: str, calls: list[tuple[str, dict[str, object]]], bound: bool
) -> None:
    whole = parse_whole(parser(name, bound), text)
    assert found(whole) == (content, calls)
    assert assemble(stream(parser(name, bound), [*text])) == whole


@pytest.mark.parametrize(("name", "text"), BAD)
def test_what_is_no_call_is_content(name: str, text: str) -> None:
    assert parse_whole(parser(name), text) == ParsedText(text)
    assert assemble(stream(parser(name), [*text])) == ParsedText(text)


def test_every_format_is_tried() -> None:
    tried = {id(tool_format_of(name)) for name, *_ in GOOD}
    rest = {name for name, form in TOOL_PARSERS.items() if id(form) not in tried}
    assert rest == {"longcat", "seed_oss", "llama4_pythonic"}  # other tags of a format above


@given(st.sampled_from(GOOD), st.lists(st.integers(0, 10_000), max_size=30), st.booleans())
def test_splits_do_not_matter(
    case: tuple[str, str, str, list[object]], cuts: list[int], bound: bool
) -> None:
    name, text, *_ = case
    whole = parse_whole(parser(name, bound), text)
    assert assemble(stream(parser(name, bound), pieces(text, cuts))) == whole


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, str]:
    """Formats' texts cut up, repeated and mixed."""
    name = draw(st.sampled_from(sorted({name for name, *_ in GOOD})))
    texts = [text for other, text, *_ in GOOD if other == name]
    texts += [text[:300] for other, text in BAD if other == name]
    marks = re.findall(r"<[^<>]*>|\[[A-Z_]+\]|[\w]+|\s+|.", "".join(texts))
    parts = st.one_of(
        st.sampled_from(texts),
        st.sampled_from(texts).flatmap(
            lambda t: st.tuples(st.integers(0, len(t)), st.integers(0, len(t))).map(
                lambda at: t[min(at) : max(at)]
            )
        ),
        st.sampled_from(marks),
        st.sampled_from([" ", "\n", "x", '"', "{", "}", "\u00a0", "]"]),
    )
    return name, "".join(draw(st.lists(parts, max_size=8)))


@settings(max_examples=400)
@given(damaged(), st.lists(st.integers(0, 10_000), max_size=30), st.booleans())
def test_damage(case: tuple[str, str], cuts: list[int], bound: bool) -> None:
    name, text = case
    whole = parse_whole(parser(name, bound), text)
    assert assemble(stream(parser(name, bound), pieces(text, cuts))) == whole
    assert assemble(stream(parser(name, bound), [*text])) == whole
    if not whole.tool_calls:
        assert whole.content == text
    if not bound:
        assert all(isinstance(json.loads(c.arguments), dict) for c in whole.tool_calls)


def test_plain_text_is_passed_on_at_once() -> None:
    made = parser("hermes")
    for delta in ["Hello", ",", " world", ".", " 1 > 0", " a", "<b>", "안녕"]:
        assert made.feed(delta) == [ContentDelta(delta)]
    assert made.feed("") == []
    assert made.finish() == []


@pytest.mark.parametrize(
    ("name", "deltas", "shown"),
    [
        ("hermes", ["a <", "tool", " x"], ["a", "", " <tool x"]),
        ("hermes", ["a\n", "\n", "b"], ["a", "", "\n\nb"]),
        ("hermes", ["<tool_call>", "\n", "{", "x"], ["", "", "", "<tool_call>\n{x"]),
        ("hermes", ['<tool_call>{"name":', " 1", "2"], ["", '<tool_call>{"name": 1', "2"]),
        ("mistral", ["[", "TO", "DO]"], ["", "", "[TODO]"]),
        ("pythonic", ["[", "weather", ", ", "x]"], ["", "", "[weather,", " x]"]),
        ("pythonic", ["[", "we", "(", "x"], ["", "", "[we(", "x"]),  # no such tool
        ("llama3_json", [" ", "{", '"', "an", '"', ": 1}"], ["", "", "", "", "", ' {"an": 1}']),
        ("llama3_json", ["a", " {", '"name"'], ["a", " {", '"name"']),
        ("glm45", ["<tool_call>", "we", " are", " here"], ["", "", "<tool_call>we are", " here"]),
    ],
)
def test_held_no_longer_than_needed(name: str, deltas: list[str], shown: list[str]) -> None:
    made = parser(name)
    seen = ["".join(e.text for e in made.feed(delta)) for delta in deltas]
    assert seen == shown


def test_arguments_stream_when_a_grammar_binds() -> None:
    made = parser("hermes", bound=True)
    assert made.feed('<tool_call>\n{"name": "weather", "argu') == []
    assert made.feed('ments": {"ci') == [
        ToolCallStart(0, "weather-0", "weather"),
        ToolCallArguments(0, '{"ci'),
    ]
    assert made.feed('ty": "Se') == [ToolCallArguments(0, 'ty": "Se')]
    assert made.feed("oul\\") == [ToolCallArguments(0, "oul")]
    assert made.feed('""') == [ToolCallArguments(0, '\\""')]
    assert made.feed("}") == [ToolCallArguments(0, "}")]
    assert made.feed("}\n</tool_call>") == []
    assert made.finish() == []


def test_strings_in_markup_stream_when_a_grammar_binds() -> None:
    made = parser("qwen3_coder", bound=True)
    made.feed("<tool_call>\n<function=weather>\n<parameter=city>\n")
    assert made.feed('a "b"\n') == [ToolCallArguments(0, 'a \\"b\\"')]
    assert made.feed("</para") == []
    assert made.feed("graph>") == [ToolCallArguments(0, "\\n</paragraph>")]
    assert made.feed("\n</parameter>\n</function>") == [ToolCallArguments(0, '"}')]


def test_a_call_cut_off() -> None:
    """By the length limit. Bound: its arguments end where they end, as OpenAI's do."""
    text = 'x <tool_call>{"name": "weather", "arguments": {"city": "Se'
    assert parse_whole(parser("hermes"), text) == ParsedText(text)
    assert parse_whole(parser("hermes", bound=True), text) == ParsedText(
        "x", (ToolCall("weather-0", "weather", '{"city": "Se'),)
    )


def test_one_call_only() -> None:
    text = '<tool_call>{"name": "time"}</tool_call>' * 3
    for bound in (False, True):
        made = parser("hermes", bound, parallel=False)
        assert len(parse_whole(made, text).tool_calls) == 1


def test_names_are_checked_against_the_tools_there_are() -> None:
    text = '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>'
    assert parse_whole(parser("hermes"), text) == ParsedText(text)
    assert len(parse_whole(ToolParser("hermes"), text).tool_calls) == 1


def test_ids() -> None:
    def ids(name: str, text: str) -> list[str]:
        return [call.id for call in parse_whole(ToolParser(name, TOOLS), text).tool_calls]

    (own,) = ids("hermes", '<tool_call>{"name": "time"}</tool_call>')
    assert re.fullmatch(r"chatcmpl-tool-[0-9a-f]{16}", own)
    (short,) = ids("mistral", "[TOOL_CALLS]time{}")
    assert re.fullmatch(r"[A-Za-z0-9]{9}", short)  # what Mistral's templates insist on
    assert ids("mistral", "[TOOL_CALLS]time[CALL_ID]abcdefghi[ARGS]{}") == ["abcdefghi"]
    assert ids("kimi_k2", next(text for name, text, *_ in GOOD if name == "kimi_k2")) == [
        "functions.weather:0",
        "functions.time:1",
    ]


def test_unknown_parser() -> None:
    with pytest.raises(ConfigError, match="unknown tool parser 'hermees'; did you mean 'hermes'"):
        ToolParser("hermees")


def test_long_arguments_take_linear_time() -> None:
    """Thirty thousand characters in small deltas; quadratic work would take minutes."""
    value = "".join(random.Random(0).choices('ab \\"\n{}', k=30_000))
    text = '<tool_call>{"name": "weather", "arguments": ' + json.dumps({"city": value}) + "}"
    for bound in (False, True):
        parsed = assemble(
            stream(parser("hermes", bound), [text[i : i + 4] for i in range(0, len(text), 4)])
        )
        assert json.loads(parsed.tool_calls[0].arguments) == {"city": value}
