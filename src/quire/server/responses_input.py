"""A responses body to a chat body: items to messages, flat tools to nested ones."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from quire.core.errors import RequestError
from quire.server.errors import refused
from quire.server.protocol.chat import ChatCompletionRequest
from quire.server.protocol.responses import ResponsesRequest

Item = dict[str, Any]
ChatMessage = dict[str, Any]

# Chat's own ways of saying what a responses body says otherwise.
_NOT_FROM_EXTRAS = frozenset(
    {"messages", "n", "echo", "logprobs", "max_tokens", "max_completion_tokens", "stream_options"}
)
_TEXT_PARTS = ("input_text", "output_text", "text", "refusal", "reasoning_text", "summary_text")


def chat_request(body: ResponsesRequest, items: Sequence[Item]) -> ChatCompletionRequest:
    """The chat body that does what `body` asks for.

    Args:
        items: the whole conversation, earlier turns first.

    Raises:
        RequestError, APIError, RequestValidationError: naming the field.
    """
    extras = {k: v for k, v in (body.model_extra or {}).items() if k not in _NOT_FROM_EXTRAS}
    tools, choice = _tools(body)
    data: dict[str, Any] = {
        **extras,
        "model": body.model,
        "messages": messages_of(items, body.instructions),
        "stream": body.stream,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "max_completion_tokens": body.max_output_tokens,
        "logprobs": body.wants_logprobs,
        "top_logprobs": body.top_logprobs,
        "parallel_tool_calls": body.parallel_tool_calls,
        "reasoning_effort": body.reasoning.effort if body.reasoning else None,
        "request_id": body.request_id,
        "user": body.user,
    }
    if tools:
        data |= {"tools": tools, "tool_choice": choice}
    wanted = body.text.format if body.text else None
    if wanted is not None:
        data["response_format"] = _response_format(wanted)
    return checked_chat(data)


def checked_chat(data: Mapping[str, Any]) -> ChatCompletionRequest:
    """A chat body out of another API's. Raises RequestValidationError, as the route itself
    would."""
    try:
        return ChatCompletionRequest.model_validate(data)
    except ValidationError as error:
        raise RequestValidationError(
            [{**each, "loc": ("body", *each["loc"])} for each in error.errors()]
        ) from None


# --- items ---


def input_items(body: ResponsesRequest) -> list[Item]:
    """The body's own input as items."""
    if isinstance(body.input, str):
        return [{"type": "message", "role": "user", "content": body.input}]
    if not body.input:
        raise RequestError("input is empty; give at least one item", "input")
    return body.input


def messages_of(items: Sequence[Item], instructions: str | None) -> list[ChatMessage]:
    """A conversation as chat messages. What is said before its first turn is one system message,
    because most templates know no more than one.

    Raises:
        RequestError: an item that is no text, call or result.
    """
    system = [] if instructions is None else [instructions]
    messages: list[ChatMessage] = []
    for message in _joined(_message(item, index) for index, item in enumerate(items)):
        if message["role"] == "system" and not messages:
            system.append(message["content"])
        else:
            messages.append(message)
    if system:
        messages.insert(0, {"role": "system", "content": "\n\n".join(system)})
    return messages


def _message(item: Item, index: int) -> ChatMessage:
    kind = item.get("type") or "message"
    if kind == "message":
        role = item.get("role")
        if role not in ("user", "assistant", "system", "developer"):
            roles = "user, assistant, system or developer"
            raise _wrong(index, f"needs a role of {roles}, got {role!r}")
        content = _text(item.get("content"), index)
        return {"role": "system" if role == "developer" else role, "content": content}
    if kind == "function_call":
        function = {"name": item.get("name"), "arguments": item.get("arguments") or "{}"}
        if not all(isinstance(value, str) for value in function.values()):
            raise _wrong(index, "is a call without a name, or whose arguments are no text")
        call = {"id": item.get("call_id"), "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    if kind == "function_call_output":
        output = _text(item.get("output"), index)
        return {"role": "tool", "tool_call_id": item.get("call_id"), "content": output}
    if kind == "reasoning":
        thought = _text(item.get("content") or item.get("summary") or "", index)
        return {"role": "assistant", "content": None, "reasoning_content": thought}
    raise _wrong(index, f"is of type {kind!r}, which is not supported")


def _text(content: Any, index: int) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise _wrong(index, "needs a text or a list of parts")
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else type(part).__name__
        if kind not in _TEXT_PARTS:
            raise _wrong(index, f"has a part of type {kind!r}; only text is supported")
        text = part.get("refusal" if kind == "refusal" else "text")
        if not isinstance(text, str):
            raise _wrong(index, "has a part without a text")
        texts.append(text)
    return "\n".join(texts)


def _wrong(index: int, what: str) -> RequestError:
    return RequestError(f"input[{index}] {what}", "input")


def _joined(messages: Iterator[ChatMessage]) -> Iterator[ChatMessage]:
    """The assistant's reasoning, text and calls in a row are one message."""
    last: ChatMessage | None = None
    for message in messages:
        if last is not None and _fits(last, message):
            _absorb(last, message)
            continue
        if last is not None:
            yield last
        last = message
    if last is not None:
        yield last


def _fits(last: ChatMessage, message: ChatMessage) -> bool:
    """Whether the message goes on where the last one ended, rather than being a turn of its own."""
    if not last["role"] == message["role"] == "assistant":
        return False
    if message.get("tool_calls"):
        return True
    return "tool_calls" not in last and last["content"] is None


def _absorb(last: ChatMessage, message: ChatMessage) -> None:
    if message.get("tool_calls"):
        last.setdefault("tool_calls", []).extend(message["tool_calls"])
    if message["content"] is not None:
        last["content"] = message["content"]
    if "reasoning_content" in message:
        earlier = last.get("reasoning_content", "")
        last["reasoning_content"] = earlier + message["reasoning_content"]


# --- tools and formats ---


def _tools(body: ResponsesRequest) -> tuple[list[dict[str, Any]], Any]:
    """Chat's `tools` and `tool_choice`."""
    tools = [_tool(tool, index) for index, tool in enumerate(body.tools or [])]
    choice = body.tool_choice
    if not isinstance(choice, dict):
        return tools, choice
    kind = choice.get("type")
    if kind == "function":
        return tools, {"type": "function", "function": {"name": choice.get("name")}}
    if kind == "allowed_tools":
        allowed = choice.get("tools")
        if not isinstance(allowed, list):
            raise RequestError("tool_choice of type allowed_tools needs tools", "tool_choice")
        names = [t.get("name") for t in allowed if isinstance(t, dict)]
        return [t for t in tools if t["function"]["name"] in names], choice.get("mode", "auto")
    raise RequestError(
        "tool_choice must be auto, required, none, a function or allowed_tools", "tool_choice", kind
    )


def _tool(tool: dict[str, Any], index: int) -> dict[str, Any]:
    kind = tool.get("type")
    if kind != "function":
        raise refused(f"tools[{index}] of type {kind!r}", "only function tools run here")
    given = tool.get("function", tool)
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        raise RequestError(f"tools[{index}] has no name", "tools")
    fields = ("name", "description", "parameters", "strict")
    return {
        "type": "function",
        "function": {name: given[name] for name in fields if given.get(name) is not None},
    }


def _response_format(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Chat nests what stands flat here."""
    if wanted.get("type") != "json_schema":
        return dict(wanted)
    if "schema" not in wanted:
        raise RequestError("text.format of type json_schema needs the field schema", "text.format")
    return {"type": "json_schema", "json_schema": {k: v for k, v in wanted.items() if k != "type"}}
