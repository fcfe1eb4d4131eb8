"""POST /v1/chat/completions."""

from typing import Any, Literal

from pydantic import field_validator

from quire.server.protocol.common import Body, GenerationBody


class FunctionDefinition(Body):
    """A function the model may call; `parameters` is a JSON schema."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class ToolDefinition(Body):
    """An entry of `tools`."""

    type: Literal["function"] = "function"
    function: FunctionDefinition


class ChatCompletionRequest(GenerationBody):
    """A conversation to answer. What messages say is judged where they are rendered."""

    messages: list[dict[str, Any]]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    logprobs: bool | None = False
    top_logprobs: int | None = None

    tools: list[ToolDefinition] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = True

    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = (
        None
    )
    include_reasoning: bool = True

    add_generation_prompt: bool = True
    continue_final_message: bool = False
    echo: bool = False
    documents: list[dict[str, Any]] | None = None
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    return_prompt_text: bool | None = None

    @field_validator("messages")
    @classmethod
    def _form(cls, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for index, message in enumerate(messages):
            if not isinstance(message.get("role"), str):
                raise ValueError(f"message {index} needs the field role, a text")
            if not isinstance(message.get("content"), str | list | None):
                raise ValueError(f"message {index} needs a text or a list of parts as content")
        return messages
