"""POST /tokenize and /detokenize."""

from typing import Any

from quire.server.protocol.chat import ToolDefinition
from quire.server.protocol.common import Body


class TokenizeRequest(Body):
    """A prompt, or a conversation as chat would render it."""

    model: str | None = None
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = False
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    tools: list[ToolDefinition] | None = None
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class DetokenizeRequest(Body):
    """Token ids."""

    model: str | None = None
    tokens: list[int]
