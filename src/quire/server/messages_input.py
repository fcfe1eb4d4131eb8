"""A messages body to a chat body: blocks to chat messages, tools to chat's tools."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from quire.core.errors import RequestError
from quire.server.errors import refused
from quire.server.protocol.chat import ChatCompletionRequest
from quire.server.protocol.messages import Conversation, MessagesRequest
from quire.server.responses_input import checked_chat

ChatMessage = dict[str, Any]
Block = Mapping[str, Any]

# Chat's own ways of saying what a messages body says otherwise.
_NOT_FROM_EXTRAS = frozenset(
    {
        "n",
        "echo",
        "stop",
        "logprobs",
        "top_logprobs",
        "prompt_logprobs",
        "max_completion_tokens",
        "stream_options",
        "response_format",
    }
)


def chat_request(body: MessagesRequest) -> ChatCompletionRequest:
    """The chat body that does what `body` asks for.

    Raises:
        RequestError, APIError, RequestValidationError: naming the field.
    """
    extras = {k: v for k, v in (body.model_extra or {}).items() if k not in _NOT_FROM_EXTRAS}
    return checked_chat(
        {
            **extras,
            **conversation(body),
            "stream": body.stream,
            "max_tokens": body.max_tokens,
            "stop": body.stop_sequences,
            "temperature": body.temperature,
            "top_p": body.top_p,
            "top_k": body.top_k,
        }
    )


def conversation(body: Conversation) -> dict[str, Any]:
    """The fields of a chat body that make the prompt. Raises as `chat_request`."""
    messages = _messages(body)
    data: dict[str, Any] = {"model": body.model, "messages": messages}
    if messages[-1]["role"] == "assistant" and not messages[-1].get("tool_calls"):
        # The answer goes on with what the client began.
        data |= {"add_generation_prompt": False, "continue_final_message": True}
    data |= _tools(body)
    data |= _thinking(body)
    return data


# --- messages ---


def _messages(body: Conversation) -> list[ChatMessage]:
    made: list[ChatMessage] = []
    if body.system is not None:
        system = body.system
        text = system if isinstance(system, str) else _texts(system, "system")
        made.append({"role": "system", "content": text})
    for index, message in enumerate(body.messages):
        place = f"messages[{index}]"
        if isinstance(message.content, str):
            made.append({"role": message.role, "content": message.content})
        elif message.role == "assistant":
            made.append(_assistant(message.content, place))
        elif message.role == "system":
            made.append({"role": "system", "content": _texts(message.content, place)})
        else:
            made += _user(message.content, place)
    return made


def _user(blocks: Sequence[Block], place: str) -> list[ChatMessage]:
    """Tool results are messages of their own, before what the user says to them."""
    results = [_result(block, place) for block in blocks if block.get("type") == "tool_result"]
    others = [block for block in blocks if block.get("type") != "tool_result"]
    if others or not results:
        results.append({"role": "user", "content": _texts(others, place)})
    return results


def _result(block: Block, place: str) -> ChatMessage:
    content = block.get("content") or ""
    text = content if isinstance(content, str) else _texts(content, place)
    if block.get("is_error") and not text.lower().startswith("error"):
        text = f"Error: {text}"
    return {"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": text}


def _assistant(blocks: Sequence[Block], place: str) -> ChatMessage:
    texts: list[Block] = []
    thoughts: list[str] = []
    calls: list[dict[str, Any]] = []
    for block in blocks:
        match block.get("type"):
            case "thinking":
                thoughts.append(str(block.get("thinking") or ""))
            case "redacted_thinking":
                pass  # it was readable to another server only
            case "tool_use":
                calls.append(_call(block, place))
            case _:
                texts.append(block)
    message: ChatMessage = {"role": "assistant", "content": _texts(texts, place) if texts else None}
    if thoughts:
        message["reasoning_content"] = "".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    elif message["content"] is None:
        message["content"] = ""
    return message


def _call(block: Block, place: str) -> dict[str, Any]:
    name, given = block.get("name"), block.get("input")
    if not isinstance(name, str) or not isinstance(given, dict):
        raise RequestError(f"{place} has a tool_use block without a name or an input", "messages")
    function = {"name": name, "arguments": json.dumps(given, ensure_ascii=False)}
    return {"id": block.get("id"), "type": "function", "function": function}


def _texts(blocks: Any, place: str) -> str:
    if not isinstance(blocks, list):
        raise RequestError(f"{place} needs a text or a list of blocks", place.split("[")[0])
    texts = []
    for block in blocks:
        kind = block.get("type") if isinstance(block, Mapping) else type(block).__name__
        if kind != "text" or not isinstance(block.get("text"), str):
            raise RequestError(
                f"{place} has a block of type {kind!r}; only text is supported here",
                place.split("[")[0],
            )
        texts.append(block["text"])
    return "\n".join(texts)


# --- tools, thinking, form ---


def _tools(body: Conversation) -> dict[str, Any]:
    if not body.tools:
        return {}
    data: dict[str, Any] = {"tools": [_tool(tool, i) for i, tool in enumerate(body.tools)]}
    choice = body.tool_choice
    if choice is None:
        return data
    if choice.type == "tool":
        if choice.name is None:
            raise RequestError("tool_choice of type tool needs a name", "tool_choice")
        data["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
    else:
        data["tool_choice"] = {"auto": "auto", "any": "required", "none": "none"}[choice.type]
    data["parallel_tool_calls"] = not choice.disable_parallel_tool_use
    return data


def _tool(tool: Mapping[str, Any], index: int) -> dict[str, Any]:
    kind = tool.get("type") or "custom"
    if kind != "custom":
        raise refused(f"tools[{index}] of type {kind!r}", "only tools that the client runs work")
    if not isinstance(tool.get("name"), str):
        raise RequestError(f"tools[{index}] has no name", "tools")
    function = {"name": tool["name"], "parameters": tool.get("input_schema") or {}}
    if tool.get("description") is not None:
        function["description"] = tool["description"]
    return {"type": "function", "function": function}


def _thinking(body: Conversation) -> dict[str, Any]:
    """How much to think, and the answer's form."""
    data: dict[str, Any] = {}
    kind = (body.thinking or {}).get("type")
    if kind is not None:
        given = (body.model_extra or {}).get("chat_template_kwargs")
        given = given if isinstance(given, dict) else {}
        data["chat_template_kwargs"] = {"enable_thinking": kind != "disabled", **given}
    config = body.output_config or {}
    if config.get("effort") is not None:
        data["reasoning_effort"] = config["effort"]
    wanted = config.get("format")
    if wanted is not None:
        if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
            raise RequestError("output_config.format must be of type json_schema", "output_config")
        schema = {"name": "output", "schema": wanted.get("schema")}
        data["response_format"] = {"type": "json_schema", "json_schema": schema}
    return data
