"""POST /v1/responses."""

from typing import Any, Literal

from pydantic import Field

from quire.server.protocol.common import INT64, Body


class ReasoningOptions(Body):
    """How much to think. Summaries are not made."""

    effort: str | None = None


class TextOptions(Body):
    """The form of the answer's text."""

    format: dict[str, Any] | None = None
    verbosity: str | None = None


class ResponsesRequest(Body):
    """A turn. Chat's sampling parameters are taken as further fields."""

    model: str | None = None
    input: str | list[dict[str, Any]]
    instructions: str | None = None
    previous_response_id: str | None = None
    store: bool | None = True
    background: bool | None = False
    stream: bool | None = False

    max_output_tokens: int | None = Field(None, ge=1, lt=INT64)
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    include: list[str] | None = None
    reasoning: ReasoningOptions | None = None
    text: TextOptions | None = None

    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = True
    max_tool_calls: int | None = None

    metadata: dict[str, str] | None = None
    user: str | None = None
    truncation: Literal["auto", "disabled"] | None = "disabled"
    service_tier: str | None = None
    prompt: dict[str, Any] | None = None
    conversation: str | dict[str, Any] | None = None
    request_id: str | None = Field(None, max_length=256)
