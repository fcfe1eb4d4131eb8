"""Which parsers take a model's answers apart, decided once per server."""

import logging
from dataclasses import dataclass

from quire.core.errors import QuireError
from quire.server.config import ServerConfig
from quire.text.chat import choose_template
from quire.text.reasoning.formats import detect_reasoning_parser, reasoning_format_of
from quire.text.tokenizer import Tokenizer
from quire.text.tools.detect import detect_tool_parser
from quire.text.tools.parser import tool_format_of

logger = logging.getLogger("quire")


@dataclass(frozen=True, slots=True)
class OutputParsers:
    """Names of parsers; None: answers are plain text."""

    tools: str | None = None
    reasoning: str | None = None


def check_parsers(config: ServerConfig) -> None:
    """Before anything is loaded.

    Raises:
        ConfigError: no such parser.
    """
    if config.tool_call_parser:
        tool_format_of(config.tool_call_parser)
    if config.reasoning_parser:
        reasoning_format_of(config.reasoning_parser)


def choose_parsers(config: ServerConfig, tokenizer: Tokenizer, template: str) -> OutputParsers:
    """What was asked for ("" is none), else what the chat template shows."""
    tools, reasoning = config.tool_call_parser, config.reasoning_parser
    if tools is None:
        special = [tokenizer.added_tokens.get(i, "") for i in tokenizer.special_ids]
        tools = detect_tool_parser(template, special)
    if reasoning is None:
        reasoning = detect_reasoning_parser(template)
        if reasoning is not None:
            logger.info("reasoning is parsed as '%s', by the chat template", reasoning)
    return OutputParsers(tools or None, reasoning or None)


def template_source(tokenizer: Tokenizer, chat_template: str | None) -> str:
    """The template that conversations with tools go through; empty if there is none."""
    try:
        return choose_template(tokenizer, chat_template, with_tools=True)
    except QuireError:
        return ""  # no template: no chat, and no tools
