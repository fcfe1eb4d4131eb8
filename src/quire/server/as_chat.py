"""What the APIs that are chat in another dress share: their bodies as chat bodies."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from quire.core.errors import RequestError
from quire.server.errors import refused
from quire.server.protocol.chat import ChatCompletionRequest
from quire.server.protocol.common import Body

ChatMessage = dict[str, Any]

# Fields of chat that the other APIs say in another way, or have no place for.
_CHATS_OWN = frozenset(
    ("n", "echo", "logprobs", "prompt_logprobs", "stream_options", "max_tokens",
     "max_completion_tokens")
)  # fmt: skip


def chat_request(body: Body, fields: Mapping[str, Any]) -> ChatCompletionRequest:
    """A chat body of these fields, and of those of chat that `body` has beside its own.

    Raises:
        RequestValidationError: as the chat route itself would.
        APIError: beam search is for chat alone.
    """
    extras = {k: v for k, v in (body.model_extra or {}).items() if k not in _CHATS_OWN}
    if extras.get("use_beam_search"):
        raise refused("use_beam_search", "use /v1/chat/completions")
    try:
        return ChatCompletionRequest.model_validate({**extras, **fields})
    except ValidationError as error:
        raise RequestValidationError(
            [{**each, "loc": ("body", *each["loc"])} for each in error.errors()]
        ) from None


def joined_text(content: Any, place: str, kinds: Sequence[str] = ("text",)) -> str:
    """A text, or the texts of parts of these kinds.

    Args:
        place: where it stands, such as "input[3]".

    Raises:
        RequestError: a part is none of these, or has no text.
    """
    if isinstance(content, str):
        return content
    field = place.split("[")[0]
    if not isinstance(content, list):
        raise RequestError(f"{place} needs a text or a list of parts", field)
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else type(part).__name__
        if kind not in kinds:
            raise RequestError(
                f"{place} has a part of type {kind!r}; only text is supported here", field
            )
        text = part.get("refusal" if kind == "refusal" else "text")
        if not isinstance(text, str):
            raise RequestError(f"{place} has a part without a text", field)
        texts.append(text)
    return "\n".join(texts)


def function_call(call_id: Any, name: Any, arguments: Any, place: str) -> dict[str, Any]:
    """A call of an earlier turn."""
    if not isinstance(name, str) or not isinstance(arguments, str):
        raise RequestError(f"{place} is a call without a name or arguments", place.split("[")[0])
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def function_tool(given: Any, schema: str, index: int) -> dict[str, Any]:
    """A tool that is written flat.

    Args:
        schema: the field that holds the schema of the parameters.
    """
    if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
        raise RequestError(f"tools[{index}] has no name", "tools")
    fields = {name: given.get(name) for name in ("name", "description", "strict")}
    fields["parameters"] = given.get(schema)
    return {"type": "function", "function": {k: v for k, v in fields.items() if v is not None}}


def tool_fields(tools: list[dict[str, Any]], choice: Any) -> dict[str, Any]:
    """Chat's `tools` and `tool_choice`. Without tools, only a choice that needs one is passed on,
    to be refused."""
    if tools:
        return {"tools": tools, "tool_choice": choice}
    return {} if choice in (None, "auto", "none") else {"tool_choice": choice}
