"""OutputReader: one choice's text into content, reasoning and tool calls, as it comes."""

from quire.text.reasoning.response import ResponseParser
from quire.text.tools.events import Event, ReasoningDelta


class OutputReader:
    """Feed a choice's text, then `finish`.

    Args:
        include_reasoning: False: reasoning is dropped.
    """

    __slots__ = ("_parser", "_shows_reasoning")

    def __init__(self, parser: ResponseParser, include_reasoning: bool) -> None:
        self._parser = parser
        self._shows_reasoning = include_reasoning

    def feed(self, text: str) -> list[Event]:
        """What is certain once this text has come; may be empty."""
        return self._shown(self._parser.feed(text))

    def finish(self) -> list[Event]:
        """What was held back."""
        return self._shown(self._parser.finish())

    def _shown(self, events: list[Event]) -> list[Event]:
        if self._shows_reasoning:
            return events
        return [each for each in events if not isinstance(each, ReasoningDelta)]
