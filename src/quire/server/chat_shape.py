"""ChatShape: what a chat body asks its answer to carry, streamed or whole; and ChatReader, which
takes one choice's tokens apart accordingly, whichever API shows them."""

from collections.abc import Sequence
from typing import Any

from quire.engine.frontend_prompt import Prompt
from quire.engine.frontend_request import TrackedSequence
from quire.server.answer import AnswerFacts
from quire.server.chat_tools import ToolUse
from quire.server.logprobs import chat_logprobs
from quire.server.protocol.chat import ChatCompletionRequest
from quire.server.state import ServerState
from quire.text.reasoning.parser import ReasoningParser, ResponseParser
from quire.text.tools.events import ContentDelta, Event, ReasoningDelta, ToolCallStart


class ChatShape:
    """What a body asks for, fixed before the first token.

    Args:
        reasoning: the reasoning parser's name.
        api: who asks, for metrics.
    """

    def __init__(
        self,
        state: ServerState,
        body: ChatCompletionRequest,
        facts: AnswerFacts,
        tools: ToolUse,
        prompt: Prompt,
        reasoning: str | None,
        api: str,
    ) -> None:
        last = body.messages[-1]
        role = state.config.response_role
        if not body.add_generation_prompt:
            role = str(last.get("role", role))
        hides = reasoning is not None and not body.include_reasoning
        self.facts, self.tools, self.api = facts, tools, api
        self.metrics = state.metrics
        self.streaming = bool(body.stream)
        self.role = role
        # The final message that the answer goes on with, and what it begins with, before anything
        # generated.
        self.continued = _text_of(last) if body.continue_final_message else ""
        self.echo = _text_of(last) if body.echo and last.get("role") == role else ""
        self.reasoning_parser = reasoning
        self.include_reasoning = body.include_reasoning
        self.prompt_text = prompt.text or ""
        self.return_prompt_text = bool(body.return_prompt_text)
        # What is hidden must not be readable from its tokens either.
        self.num_top = (body.top_logprobs or 0) if body.logprobs and not hides else None
        self.return_token_ids = facts.return_token_ids and not hides

    def parser(self) -> ResponseParser | None:
        """For one choice's text; None if all of it is content."""
        if self.tools.parser is None and self.reasoning_parser is None:
            return None
        reasoning = None
        if self.reasoning_parser is not None:
            reasoning = ReasoningParser(
                self.reasoning_parser, self.prompt_text, continued=self.continued
            )
        return ResponseParser(reasoning, self.tools.make_parser())

    def reasoning_tokens(self, readers: "Sequence[ChatReader]") -> int | None:
        """How many tokens of these choices are reasoning; None without a reasoning parser."""
        if self.reasoning_parser is None:
            return None
        encode = self.facts.tokenizer.encode
        return sum(
            len(encode("".join(reader.reasoning), add_special_tokens=False)) for reader in readers
        )


class ChatReader:
    """One choice of a chat answer, read as it comes or all at once."""

    __slots__ = ("_parser", "_shape", "called", "index", "num_tokens", "reasoning")

    def __init__(self, shape: ChatShape, index: int) -> None:
        self._shape = shape
        self._parser = shape.parser()
        self.index = index
        self.num_tokens = 0
        self.called = False  # a tool call has begun
        self.reasoning: list[str] = []

    @property
    def is_plain(self) -> bool:
        """All text is content."""
        return self._parser is None

    def read(self, text: str, num_tokens: int, ended: bool) -> list[Event]:
        """What is certain once these tokens have come; `ended`: they are the last."""
        self.num_tokens += num_tokens
        if self._parser is None:
            return [ContentDelta(text)] if text else []
        events = self._parser.feed(text) if text else []
        if ended:
            events = [*events, *self._parser.finish()]
        for event in events:
            if isinstance(event, ToolCallStart):
                self.called = True
            elif isinstance(event, ReasoningDelta):
                self.reasoning.append(event.text)
        if ended and self._shape.tools.parser is not None:
            self._shape.metrics.on_tool_parser(
                streaming=self._shape.streaming, called=self.called, request_type=self._shape.api
            )
        hidden: tuple[type[Event], ...] = ()
        if not self._shape.include_reasoning:
            hidden += (ReasoningDelta,)
        if self._shape.tools.only_calls:
            hidden += (ContentDelta,)
        return [event for event in events if not isinstance(event, hidden)]

    def logprobs(self, sequence: TrackedSequence, count: int) -> list[dict[str, Any]] | None:
        """Of the last `count` tokens read; None if they are not asked for."""
        shape = self._shape
        if shape.num_top is None:
            return None
        start = self.num_tokens - count
        positions = sequence.logprobs(shape.facts.tokenizer, start) or []
        return chat_logprobs(positions[:count], shape.num_top, shape.facts.writer)


def _text_of(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""
