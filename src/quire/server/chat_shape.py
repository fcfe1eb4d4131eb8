"""ChatShape: what a chat body asks its answer to carry, streamed or whole."""

from dataclasses import dataclass

from quire.engine.frontend_prompt import Prompt
from quire.server.answer import AnswerFacts
from quire.server.chat_output import OutputReader
from quire.server.chat_tools import ToolUse
from quire.server.logprobs import TokenWriter
from quire.server.protocol.chat import ChatCompletionRequest
from quire.server.state import ServerState, Serving
from quire.text.reasoning.parser import make_reasoning_parser
from quire.text.reasoning.response import ResponseParser
from quire.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class ChatShape:
    """Fixed before the first token."""

    facts: AnswerFacts
    serving: Serving
    role: str
    continued: str  # the final message that the answer goes on with
    echo: str  # what the answer begins with, before anything generated
    tools: ToolUse
    reasoning_parser: str | None
    include_reasoning: bool
    prompt_text: str  # the rendered conversation
    num_top: int | None  # top_logprobs; None without log-probabilities
    return_token_ids: bool
    return_prompt_text: bool
    include_usage: bool
    continuous_usage: bool
    prompt_details: bool
    interval: int
    writer: TokenWriter

    @classmethod
    def of(
        cls,
        state: ServerState,
        serving: Serving,
        body: ChatCompletionRequest,
        facts: AnswerFacts,
        tools: ToolUse,
        prompt: Prompt,
    ) -> "ChatShape":
        """What this body asks for, with the server's own settings."""
        config = state.config
        forced = config.enable_force_include_usage
        as_ids = body.return_tokens_as_token_ids
        reasoning = serving.parsers.reasoning
        hides = reasoning is not None and not body.include_reasoning
        return cls(
            facts=facts,
            serving=serving,
            role=_role(body, config.response_role),
            continued=_final_text(body) if body.continue_final_message else "",
            echo=_echo(body, config.response_role),
            tools=tools,
            reasoning_parser=reasoning,
            include_reasoning=body.include_reasoning,
            prompt_text=prompt.text or "",
            # What is hidden must not be readable from its tokens either.
            num_top=(body.top_logprobs or 0) if body.logprobs and not hides else None,
            return_token_ids=bool(body.return_token_ids) and not hides,
            return_prompt_text=bool(body.return_prompt_text),
            include_usage=body.include_usage or forced,
            continuous_usage=body.continuous_usage or forced,
            prompt_details=config.enable_prompt_tokens_details,
            interval=body.stream_interval or 1,
            writer=TokenWriter(
                serving.tokenizer, config.return_tokens_as_token_ids if as_ids is None else as_ids
            ),
        )

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The model's."""
        return self.serving.tokenizer

    def reader(self) -> OutputReader | None:
        """For one choice's text; None if all of it is content."""
        if self.tools.parser is None and self.reasoning_parser is None:
            return None
        reasoning = None
        if self.reasoning_parser is not None:
            reasoning = make_reasoning_parser(
                self.reasoning_parser, self.prompt_text, continued=self.continued
            )
        parser = ResponseParser(reasoning, self.tools.make_parser())
        return OutputReader(parser, self.include_reasoning)

    def reasoning_tokens(self, reasoning: str) -> int | None:
        """How many tokens a choice's reasoning is; None without a reasoning parser."""
        if self.reasoning_parser is None or self.tokenizer is None:
            return None
        return len(self.tokenizer.encode(reasoning, add_special_tokens=False))


def _role(body: ChatCompletionRequest, response_role: str) -> str:
    if body.add_generation_prompt:
        return response_role
    return str(body.messages[-1].get("role", response_role))


def _echo(body: ChatCompletionRequest, response_role: str) -> str:
    """The last message, if the answer is of the same role."""
    if not body.echo or body.messages[-1].get("role") != _role(body, response_role):
        return ""
    return _final_text(body)


def _final_text(body: ChatCompletionRequest) -> str:
    content = body.messages[-1].get("content")
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""
