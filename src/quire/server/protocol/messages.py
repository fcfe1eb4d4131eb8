"""POST /v1/messages and /v1/messages/count_tokens: Anthropic's shape."""

from typing import Any, Literal

from pydantic import Field

from quire.server.protocol.common import INT64, Body


class ToolChoice(Body):
    """Which tool must or may be called; `name` with type "tool"."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool = False


class Thinking(Body):
    """Whether to think; how much is the model's to say."""

    type: Literal["enabled", "disabled", "adaptive"]


class OutputConfig(Body):
    """How much to think, and the form of the answer."""

    effort: str | None = None
    format: dict[str, Any] | None = None


class MessageParam(Body):
    """One turn; `content` is a text or blocks."""

    role: Literal["user", "assistant", "system"]
    content: str | list[dict[str, Any]]


class Conversation(Body):
    """What goes into the prompt."""

    model: str | None = None
    messages: list[MessageParam] = Field(min_length=1)
    system: str | list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: dict[str, Any] | None = None  # an older place of `output_config.format`


class CountTokensRequest(Conversation):
    """How long would the prompt be?"""


class MessagesRequest(Conversation):
    """A turn. Chat's sampling parameters are taken as further fields."""

    max_tokens: int = Field(ge=1, lt=INT64)
    stop_sequences: list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stream: bool | None = False
    metadata: dict[str, Any] | None = None
