"""A responses body to a chat body: items to messages, flat tools to nested ones."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from quire.core.errors import RequestError
from quire.server import as_chat
from quire.server.as_chat import ChatMessage, function_call, function_tool, joined_text
from quire.server.errors import refused
from quire.server.protocol.chat import ChatCompletionRequest
from quire.server.protocol.responses import ResponsesRequest

Item = dict[str, Any]

_LOGPROBS = "message.output_text.logprobs"
_TEXTS = ("input_text", "output_text", "text", "refusal", "reasoning_text", "summary_text")


def chat_request(body: ResponsesRequest, items: Sequence[Item]) -> ChatCompletionRequest:
    """The chat body that does what `body` asks for.

    Args:
        items: the whole conversation, earlier turns first.

    Raises:
        RequestError, APIError, RequestValidationError: naming the field.
    """
    fields: dict[str, Any] = {
        "model": body.model,
        "messages": messages_of(items, body.instructions),
        "stream": body.stream,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "max_completion_tokens": body.max_output_tokens,
        "logprobs": _LOGPROBS in (body.include or []) or bool(body.top_logprobs),
        "top_logprobs": body.top_logprobs,
        "parallel_tool_calls": body.parallel_tool_calls,
        "reasoning_effort": body.reasoning.effort if body.reasoning else None,
        "request_id": body.request_id,
        "user": body.user,
    }
    if body.truncation == "auto":  # the latest tokens of the conversation that there is room for
        fields["truncate_prompt_tokens"] = -1
    wanted = body.text.format if body.text else None
    if wanted is not None:
        fields["response_format"] = _response_format(wanted)
    return as_chat.chat_request(body, fields | _tools(body))


def input_items(body: ResponsesRequest) -> list[Item]:
    if isinstance(body.input, str):
        return [{"type": "message", "role": "user", "content": body.input}]
    if not body.input:
        raise RequestError("input is empty; give at least one item", "input")
    return body.input


# --- items ---


def messages_of(items: Sequence[Item], instructions: str | None) -> list[ChatMessage]:
    """A conversation as chat messages. What is said before its first turn is one system message,
    because most templates know no more than one.

    Raises:
        RequestError: an item that is no text, call or result.
    """
    system = [] if instructions is None else [instructions]
    messages: list[ChatMessage] = []
    for message in _joined(_message(item, f"input[{i}]") for i, item in enumerate(items)):
        if message["role"] == "system" and not messages:
            system.append(message["content"])
        else:
            messages.append(message)
    if system:
        messages.insert(0, {"role": "system", "content": "\n\n".join(system)})
    return messages


def _message(item: Item, place: str) -> ChatMessage:
    match item.get("type") or "message":
        case "message":
            role = "system" if item.get("role") == "developer" else item.get("role")
            if role not in ("user", "assistant", "system"):
                roles = "user, assistant, system or developer"
                raise RequestError(f"{place} needs a role of {roles}, got {role!r}", "input")
            return {"role": role, "content": joined_text(item.get("content"), place, _TEXTS)}
        case "function_call":
            arguments = item.get("arguments") or "{}"
            call = function_call(item.get("call_id"), item.get("name"), arguments, place)
            return {"role": "assistant", "content": None, "tool_calls": [call]}
        case "function_call_output":
            output = joined_text(item.get("output"), place, _TEXTS)
            return {"role": "tool", "tool_call_id": item.get("call_id"), "content": output}
        case "reasoning":
            thought = joined_text(item.get("content") or item.get("summary") or "", place, _TEXTS)
            return {"role": "assistant", "content": None, "reasoning_content": thought}
        case kind:
            raise RequestError(f"{place} is of type {kind!r}, which is not supported", "input")


def _joined(messages: Iterator[ChatMessage]) -> Iterator[ChatMessage]:
    """The assistant's reasoning, text and calls in a row are one message."""
    last: ChatMessage | None = None
    for message in messages:
        if last is not None and _goes_on(last, message):
            calls = [*last.get("tool_calls", ()), *message.get("tool_calls", ())]
            thought = last.get("reasoning_content", "") + message.get("reasoning_content", "")
            last["content"] = last["content"] or message["content"]
            last |= {"tool_calls": calls} if calls else {}
            last |= {"reasoning_content": thought} if thought else {}
            continue
        if last is not None:
            yield last
        last = message
    if last is not None:
        yield last


def _goes_on(last: ChatMessage, message: ChatMessage) -> bool:
    """Whether the message goes on where the last one ended, rather than being a turn of its own."""
    if not last["role"] == message["role"] == "assistant":
        return False
    return bool(message.get("tool_calls")) or ("tool_calls" not in last and not last["content"])


# --- tools and formats ---


def _tools(body: ResponsesRequest) -> dict[str, Any]:
    tools = [_tool(tool, index) for index, tool in enumerate(body.tools or [])]
    choice = body.tool_choice
    kind = choice.get("type") if isinstance(choice, dict) else "a name"
    if isinstance(choice, dict) and kind == "function":
        choice = {"type": "function", "function": {"name": choice.get("name")}}
    elif isinstance(choice, dict) and kind == "allowed_tools":
        allowed = choice.get("tools")
        if not isinstance(allowed, list):
            raise RequestError("tool_choice of type allowed_tools needs tools", "tool_choice")
        names = [t.get("name") for t in allowed if isinstance(t, dict)]
        tools = [t for t in tools if t["function"]["name"] in names]
        choice = choice.get("mode", "auto")
    elif isinstance(choice, dict):
        forms = "auto, required, none, a function or allowed_tools"
        raise RequestError(f"tool_choice must be {forms}", "tool_choice", kind)
    return as_chat.tool_fields(tools, choice)


def _tool(tool: dict[str, Any], index: int) -> dict[str, Any]:
    kind = tool.get("type")
    if kind != "function":
        raise refused(f"tools[{index}] of type {kind!r}", "only function tools run here")
    return function_tool(tool.get("function", tool), "parameters", index)


def _response_format(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Chat nests what stands flat here."""
    if wanted.get("type") != "json_schema":
        return dict(wanted)
    if "schema" not in wanted:
        raise RequestError("text.format of type json_schema needs the field schema", "text.format")
    return {"type": "json_schema", "json_schema": {k: v for k, v in wanted.items() if k != "type"}}
