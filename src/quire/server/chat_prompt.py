"""A chat body's conversation to a prompt."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from quire.core.errors import RequestError
from quire.engine.frontend_prompt import Prompt
from quire.server.errors import APIError
from quire.server.prompts import Truncation, encode_text, offload
from quire.server.protocol.chat import ChatCompletionRequest, ToolDefinition
from quire.server.state import ServerState, Serving
from quire.text.chat import render_chat

_UNTRUSTED = (
    "Chat template is passed with request, but --trust-request-chat-template is not set."
    " Refused request with untrusted chat template."
)


class Templated(Protocol):
    """A body that says how its conversation becomes a prompt."""

    add_generation_prompt: bool
    continue_final_message: bool
    chat_template: str | None
    chat_template_kwargs: dict[str, Any] | None


async def chat_prompt(state: ServerState, serving: Serving, body: ChatCompletionRequest) -> Prompt:
    """Render and encode. Raises RequestError and APIError for whatever is wrong with it."""
    characters = sum(_size(message) for message in body.messages)
    if body.chat_template is not None:
        characters = 1 << 30  # a client's own program: never on the event loop
    return await offload(characters, _prompt, state, serving, body)


def chat_text(state: ServerState, serving: Serving, body: ChatCompletionRequest) -> str:
    """What the template makes of a body. Raises as `conversation_text`."""
    return conversation_text(
        state,
        serving,
        body.messages,
        body,
        # A model that sees tools will call them, whether or not it may.
        tools=None if body.tool_choice == "none" else plain_tools(body.tools),
        documents=body.documents,
        effort=_effort(body),
    )


def _prompt(state: ServerState, serving: Serving, body: ChatCompletionRequest) -> Prompt:
    return encode_text(
        serving,
        chat_text(state, serving, body),
        Truncation(body.truncate_prompt_tokens, body.truncation_side),
        cache_salt=body.cache_salt or "",
        add_special_tokens=bool(body.add_special_tokens),
    )


def conversation_text(
    state: ServerState,
    serving: Serving,
    messages: Sequence[Mapping[str, Any]],
    body: Templated,
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    documents: Sequence[Mapping[str, Any]] | None = None,
    effort: Mapping[str, Any] | None = None,
) -> str:
    """What the template makes of a conversation, as `body` wants it.

    Raises:
        APIError, RequestError: no template, an untrusted one, or it refuses the conversation.
    """
    chat_template = body.chat_template
    if chat_template is not None and not state.config.trust_request_chat_template:
        raise APIError(400, _UNTRUSTED, "BadRequestError")
    if chat_template is not None and not any(mark in chat_template for mark in "{}\n"):
        raise RequestError("chat_template must be a template, not a name", "chat_template")
    try:
        return render_chat(
            serving.tokenizer,
            messages,
            chat_template=chat_template or serving.chat_template,
            add_generation_prompt=body.add_generation_prompt,
            continue_final_message=body.continue_final_message,
            tools=tools,
            documents=documents,
            content_format=state.config.chat_template_content_format,
            template_kwargs={
                **state.config.default_chat_template_kwargs,
                **(effort or {}),
                **(body.chat_template_kwargs or {}),
            },
        )
    except RequestError as error:
        if error.parameter == "messages" and "chat template" in str(error):
            raise APIError(400, str(error), "BadRequestError") from None  # no field's fault
        raise


def plain_tools(tools: Sequence[ToolDefinition] | None) -> list[dict[str, Any]] | None:
    """Tools as plain data, as the client wrote them."""
    if tools is None:
        return None
    return [tool.model_dump(exclude_unset=True) | {"type": tool.type} for tool in tools]


def _effort(body: ChatCompletionRequest) -> dict[str, Any]:
    """How much to think, in the variables that templates read."""
    if body.reasoning_effort is None:
        return {}
    effort: dict[str, Any] = {"reasoning_effort": body.reasoning_effort}
    if body.reasoning_effort == "none":
        effort["enable_thinking"] = False
    return effort


def _size(message: Mapping[str, Any]) -> int:
    """About how many characters a message has."""
    content = message.get("content")
    if isinstance(content, str):
        return len(content)
    return len(repr(content)) if isinstance(content, list) else 0
