"""Which parsers take a model's answers apart, decided once per server."""

from dataclasses import dataclass

from quire.core.config import ServerConfig
from quire.core.errors import QuireError
from quire.text.chat import choose_template
from quire.text.reasoning.formats import reasoning_format_of
from quire.text.tokenizer import Tokenizer
from quire.text.tools.detect import detect_tool_parser
from quire.text.tools.parser import tool_format_of


@dataclass(frozen=True, slots=True)
class OutputParsers:
    """Names of parsers; None: answers are plain text."""

    tools: str | None = None
    reasoning: str | None = None


def choose_parsers(
    config: ServerConfig, tokenizer: Tokenizer | None, chat_template: str | None
) -> OutputParsers:
    """What was asked for, else what the chat template shows.

    Raises:
        ConfigError: no such parser.
    """
    tools, reasoning = config.tool_call_parser, config.reasoning_parser
    if tools:
        tool_format_of(tools)  # refuses an unknown name
    elif tokenizer is not None:
        tools = _detected(tokenizer, chat_template)
    if reasoning:
        reasoning_format_of(reasoning)
    return OutputParsers(tools or None, reasoning or None)


def _detected(tokenizer: Tokenizer, chat_template: str | None) -> str | None:
    special = [tokenizer.added_tokens.get(i, "") for i in tokenizer.special_ids]
    return detect_tool_parser(template_source(tokenizer, chat_template), special)


def template_source(tokenizer: Tokenizer, chat_template: str | None) -> str:
    """The template that conversations with tools go through; empty if there is none."""
    try:
        return choose_template(tokenizer, chat_template, with_tools=True)
    except QuireError:
        return ""  # no template: no chat, and no tools
