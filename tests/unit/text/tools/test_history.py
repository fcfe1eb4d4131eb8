"""Arguments of earlier calls become objects; what is no JSON does not end the conversation."""

from typing import Any

import pytest

from quire.text.tools.history import parsed_arguments, template_needs_object


@pytest.mark.parametrize(
    ("arguments", "plain", "as_object"),
    [
        ('{"a": [1, "é"]}', {"a": [1, "é"]}, {"a": [1, "é"]}),
        ({"a": 1}, {"a": 1}, {"a": 1}),
        ("", {}, {}),
        (" ", {}, {}),
        (None, {}, {}),
        ('{"a": ', '{"a": ', {"arguments": '{"a": '}),
        ("[1]", "[1]", {"arguments": "[1]"}),
        ("[" * 100_000, "[" * 100_000, {"arguments": "[" * 100_000}),
    ],
)
def test_arguments(arguments: Any, plain: Any, as_object: Any) -> None:
    assert parsed_arguments(arguments) == plain
    assert parsed_arguments(arguments, as_object=True) == as_object


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ call.arguments | tojson }}", False),
        ("{% for k, v in call.function.arguments|items %}", True),
        ("{% for k, v in call['arguments'].items() %}", True),
        ("{% for k, v in call.arguments.items() %}", True),
        ("{% set args = tc.arguments %}{% for k, v in args.items() %}", True),
        ("{% set args = tc.arguments %}{{ args }}{% for k, v in other.items() %}", False),
    ],
)
def test_templates_that_need_an_object(template: str, expected: bool) -> None:
    assert template_needs_object(template) is expected
