"""A messages body to a chat body: blocks to chat messages, tools to chat's tools."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from quire.core.errors import RequestError
from quire.server import as_chat
from quire.server.as_chat import ChatMessage, function_call, function_tool, joined_text
from quire.server.errors import refused
from quire.server.protocol.chat import ChatCompletionRequest
from quire.server.protocol.messages import Conversation, MessagesRequest

Block = Mapping[str, Any]

_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def chat_request(body: Conversation) -> ChatCompletionRequest:
    """The chat body that does what `body` asks for, or has its prompt.

    Raises:
        RequestError, APIError, RequestValidationError: naming the field.
    """
    messages = _messages(body)
    fields: dict[str, Any] = {"model": body.model, "messages": messages}
    if messages[-1]["role"] == "assistant" and not messages[-1].get("tool_calls"):
        # The answer goes on with what the client began.
        fields |= {"add_generation_prompt": False, "continue_final_message": True}
    if isinstance(body, MessagesRequest):
        fields |= {
            "stream": body.stream,
            "max_tokens": body.max_tokens,
            "stop": body.stop_sequences,
            "temperature": body.temperature,
            "top_p": body.top_p,
            "top_k": body.top_k,
        }
    return as_chat.chat_request(body, fields | _tools(body) | _thinking(body) | _form(body))


# --- messages ---


def _messages(body: Conversation) -> list[ChatMessage]:
    made: list[ChatMessage] = []
    if body.system is not None:
        made.append({"role": "system", "content": joined_text(body.system, "system")})
    for index, message in enumerate(body.messages):
        place = f"messages[{index}]"
        if message.role == "assistant":
            made.append(_assistant(message.content, place))
        elif message.role == "user" and not isinstance(message.content, str):
            made += _user(message.content, place)
        else:
            made.append({"role": message.role, "content": joined_text(message.content, place)})
    return made


def _user(blocks: Sequence[Block], place: str) -> list[ChatMessage]:
    """Tool results are messages of their own, before what the user says to them."""
    results = [_result(block, place) for block in blocks if block.get("type") == "tool_result"]
    others = [block for block in blocks if block.get("type") != "tool_result"]
    if others or not results:
        results.append({"role": "user", "content": joined_text(others, place)})
    return results


def _result(block: Block, place: str) -> ChatMessage:
    text = joined_text(block.get("content") or "", place)
    if block.get("is_error") and not text.lower().startswith("error"):
        text = f"Error: {text}"
    return {"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": text}


def _assistant(content: str | list[dict[str, Any]], place: str) -> ChatMessage:
    if isinstance(content, str):
        return {"role": "assistant", "content": content}
    kept: dict[Any, list[Block]] = {}
    for block in content:
        kept.setdefault(block.get("type"), []).append(block)
    kept.pop("redacted_thinking", None)  # it was readable to another server only
    thoughts = [str(block.get("thinking") or "") for block in kept.pop("thinking", ())]
    calls = [_call(block, place) for block in kept.pop("tool_use", ())]
    texts = [block for blocks in kept.values() for block in blocks]
    message: ChatMessage = {"role": "assistant", "content": joined_text(texts, place)}
    if thoughts:
        message["reasoning_content"] = "".join(thoughts)
    if calls:
        message |= {"tool_calls": calls, "content": message["content"] or None}
    return message


def _call(block: Block, place: str) -> dict[str, Any]:
    given = block.get("input")
    arguments = json.dumps(given, ensure_ascii=False) if isinstance(given, dict) else None
    return function_call(block.get("id"), block.get("name"), arguments, f"{place}: tool_use")


# --- tools, thinking, form ---


def _tools(body: Conversation) -> dict[str, Any]:
    tools = [_tool(tool, index) for index, tool in enumerate(body.tools or [])]
    if body.tool_choice is None:
        return as_chat.tool_fields(tools, None)
    kind, name = body.tool_choice.type, body.tool_choice.name
    if kind == "tool" and name is None:
        raise RequestError("tool_choice of type tool needs a name", "tool_choice")
    named = {"type": "function", "function": {"name": name}}
    return {
        **as_chat.tool_fields(tools, named if kind == "tool" else _CHOICES[kind]),
        "parallel_tool_calls": not body.tool_choice.disable_parallel_tool_use,
    }


def _tool(tool: Mapping[str, Any], index: int) -> dict[str, Any]:
    kind = tool.get("type") or "custom"
    if kind != "custom":
        raise refused(f"tools[{index}] of type {kind!r}", "only tools that the client runs work")
    return function_tool(tool, "input_schema", index)


def _thinking(body: Conversation) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if body.thinking is not None:
        given = (body.model_extra or {}).get("chat_template_kwargs")
        thinks = {"enable_thinking": body.thinking.type != "disabled"}
        fields["chat_template_kwargs"] = thinks | (given if isinstance(given, dict) else {})
    if body.output_config is not None and body.output_config.effort is not None:
        fields["reasoning_effort"] = body.output_config.effort
    return fields


def _form(body: Conversation) -> dict[str, Any]:
    wanted = body.output_format or (body.output_config and body.output_config.format)
    if not wanted:
        return {}
    if wanted.get("type") != "json_schema":
        raise RequestError("output_config.format must be of type json_schema", "output_config")
    schema = {"name": "output", "schema": wanted.get("schema")}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}
