"""Writing Lark grammars: literals, regexes, schemas and rules with names of their own.

Also takes a user's grammar: Lark as llguidance reads it, or GBNF, which is translated.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from llguidance.gbnf_to_lark import gbnf_to_lark

from quire.core.errors import RequestError, one_line
from quire.structured.json_schema import JsonStyle, schema_text
from quire.structured.limits import (
    MAX_GBNF_BYTES,
    MAX_GBNF_RULES,
    MAX_GRAMMAR_BYTES,
    MAX_RULES,
    check_text,
)
from quire.structured.regex import regex_terminal

_RULE = re.compile(r"(?m)^\s*[?!]?[A-Za-z_][\w.\-]*[^:\n]*:")
_GBNF = re.compile(r"(?m)^\s*[A-Za-z_][\w\-]*\s*::=")
_JSON_BLOCK = re.compile(r"%json\s*(?=\{)")


class LarkWriter:
    """Collects the rules of one grammar.

    Args:
        special_tokens: text of a special token -> its id. Such a token is never text to the
            grammar, so a literal that holds one asks for the token itself.
    """

    def __init__(self, special_tokens: Mapping[str, int], style: JsonStyle) -> None:
        self.style = style
        self._special = special_tokens
        longest_first = sorted(filter(None, special_tokens), key=len, reverse=True)
        self._split = (
            re.compile("|".join(map(re.escape, longest_first))) if special_tokens else None
        )
        self._rules: list[str] = []
        self._parts: list[dict[str, Any]] = []

    def rule(self, expression: str, *, lazy: bool = False) -> str:
        """Add a rule; its name. A lazy one is a terminal and matches as little as it can."""
        name = f"r{len(self._rules)}"
        self._rules.append(f"{name}{'[lazy]' if lazy else ''}: {expression}")
        return name

    def terminal(self, expression: str) -> str:
        name = f"T{len(self._rules)}"
        self._rules.append(f"{name}: {expression}")
        return name

    def literal(self, text: str) -> str:
        """An expression for exactly this text, special tokens in it as themselves."""
        parts = []
        position = 0
        for found in self._split.finditer(text) if self._split else ():
            parts += _quoted_or_none(text[position : found.start()])
            parts.append(token_reference(self._special[found.group()]))
            position = found.end()
        parts += _quoted_or_none(text[position:])
        return " ".join(parts) or '""'

    def holds_special_token(self, text: str) -> bool:
        """Whether a literal of this text is more than characters."""
        return self._split is not None and self._split.search(text) is not None

    def json(self, schema: Any, parameter: str) -> str:
        return self.rule(f"%json {schema_text(schema, self.style, parameter)}")

    def regex(self, pattern: str, parameter: str) -> str:
        return self.terminal(regex_terminal(pattern, parameter))

    def grammar(self, text: str, parameter: str) -> str:
        """A reference to a whole grammar."""
        name = f"g{len(self._parts)}"
        self._parts.append({"name": name, "lark_grammar": user_grammar(text, parameter)})
        return f"@{name}"

    def finish(self, start: str) -> str:
        """The grammar, as llguidance takes it."""
        text = "\n".join([f"start: {start}", *self._rules]) + "\n"
        return grammars_text([{"name": "main", "lark_grammar": text}, *self._parts])


def quoted(text: str) -> str:
    return json.dumps(text)  # escapes of JSON are the escapes of Lark strings


def token_reference(token_id: int) -> str:
    return f"<[{token_id}]>"


def grammars_text(grammars: list[dict[str, Any]]) -> str:
    """Grammars that refer to each other by name; the first is the one to match."""
    return json.dumps({"grammars": grammars}, ensure_ascii=False)


def user_grammar(text: str, parameter: str = "grammar") -> str:
    """A user's grammar as Lark, within the limits.

    Raises:
        RequestError: beyond them, or a GBNF grammar that cannot be read.
    """
    check_text(parameter, text.strip(), MAX_GRAMMAR_BYTES)
    if _GBNF.search(text):
        text = _from_gbnf(text, parameter)
    _check_count(len(_RULE.findall(text)), MAX_RULES, parameter)
    return _check_json_blocks(text, parameter)


def _from_gbnf(text: str, parameter: str) -> str:
    check_text(parameter, text, MAX_GBNF_BYTES)
    _check_count(text.count("::="), MAX_GBNF_RULES, parameter)
    try:
        return gbnf_to_lark(text)
    except Exception as error:  # the translator raises bare exceptions of several kinds
        raise RequestError(
            f"{parameter} is not valid GBNF: {one_line(error, 200)}", parameter
        ) from None


def _check_count(num_rules: int, limit: int, parameter: str) -> None:
    if num_rules > limit:
        raise RequestError(
            f"{parameter} has {num_rules} rules; at most {limit} are allowed", parameter, num_rules
        )


def _check_json_blocks(text: str, parameter: str) -> str:
    """Schemas inside a grammar have the limits of any other; they keep their own whitespace
    rules, where they have some."""
    decoder = json.JSONDecoder()
    pieces = []
    position = 0
    for block in _JSON_BLOCK.finditer(text):
        if block.start() < position:
            continue
        try:
            schema, end = decoder.raw_decode(text, block.end())
        except (ValueError, RecursionError) as error:
            raise RequestError(
                f"{parameter} holds a %json block that is not valid JSON: {error}", parameter
            ) from None
        checked = schema_text(schema, JsonStyle(), parameter)
        if "x-guidance" in schema:
            checked = json.dumps(schema, ensure_ascii=False)
        pieces += [text[position : block.end()], checked]
        position = end
    return "".join([*pieces, text[position:]])


def _quoted_or_none(text: str) -> list[str]:
    return [quoted(text)] if text else []
