"""Conversations to prompts: messages, tools and documents through a chat template.

Renders what `tokenizer.apply_chat_template(tokenize=False)` renders. Which template applies, what
a message may look like, and continuing a final message are decided here; the sandbox is
`text.template`. Text only: other content parts are refused.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from quire.core.errors import RequestError
from quire.text.template import ChatTemplate
from quire.text.tokenizer import Tokenizer
from quire.text.tools.history import parsed_arguments, template_needs_object

Message = Mapping[str, Any]
ContentFormat = Literal["auto", "string", "openai"]

_CONTINUE_TAG = "CONTINUE_FINAL_MESSAGE_TAG "
# Types of content parts that are text, and where it stands.
_TEXT_PARTS = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "refusal": "refusal",
    "thinking": "thinking",
}
_REASONING_FIELDS = ("reasoning_content", "thinking", "reasoning")


def render_chat(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    *,
    chat_template: str | None = None,
    add_generation_prompt: bool = True,
    continue_final_message: bool = False,
    tools: Sequence[Any] | None = None,
    documents: Sequence[Mapping[str, str]] | None = None,
    content_format: ContentFormat = "auto",
    template_kwargs: Mapping[str, Any] | None = None,
) -> str:
    """The prompt's text for one conversation.

    Args:
        chat_template: a template, the path of a file with one, or one of the tokenizer's by name.
        continue_final_message: leave the last message open for the model to go on with.
        tools: JSON schemas, or functions with type hints and docstrings.
        content_format: what the template takes as content; "auto" reads it from the template.
        template_kwargs: more variables for the template.

    Raises:
        RequestError: no template, a malformed message, or the template refused.
    """
    if continue_final_message and add_generation_prompt:
        raise RequestError(
            "continue_final_message and add_generation_prompt exclude each other; set one to False",
            "continue_final_message",
        )
    template = _compiled(choose_template(tokenizer, chat_template, tools is not None))
    form = _MessageForm(
        lists=template.content_is_list if content_format == "auto" else content_format == "openai",
        text_in_lists=content_format == "openai",
        argument_objects=template_needs_object(template.source),
    )
    chat = [form.read(message, index) for index, message in enumerate(_conversation(messages))]
    final = _open_final_message(chat, template.source) if continue_final_message else ""
    variables: dict[str, Any] = {
        **tokenizer.facts.special_tokens,
        **_plain(template_kwargs or {}),
        "messages": chat,
        "tools": [_tool(tool) for tool in tools] if tools is not None else None,
        "documents": _documents(documents),
        "add_generation_prompt": add_generation_prompt,
    }
    text = template.render(variables)
    return _cut_at_tag(text, final) if continue_final_message else text


def choose_template(tokenizer: Tokenizer, override: str | None, with_tools: bool) -> str:
    """The template that applies.

    Raises:
        RequestError: there is none, or the name is not one of the tokenizer's.
    """
    own = tokenizer.chat_template
    if override is not None:
        if isinstance(own, dict) and override in own:
            return own[override]
        return read_template(override)
    if own is None:
        raise RequestError(
            f"'{tokenizer.facts.source}' has no chat template; pass one with chat_template="
            " (--chat-template), or use generate() with a plain prompt",
            "chat_template",
        )
    if isinstance(own, str):
        return own
    if with_tools and "tool_use" in own:
        return own["tool_use"]
    if "default" in own:
        return own["default"]
    raise RequestError(
        f"this tokenizer has several chat templates and no default; pass one of"
        f" {', '.join(sorted(own))} as chat_template= (--chat-template)",
        "chat_template",
    )


def read_template(value: str) -> str:
    """A template given as text or as the path of a file."""
    if not isinstance(value, str):
        raise RequestError(
            f"chat_template must be a string, got {type(value).__name__}", "chat_template"
        )
    if any(mark in value for mark in "{}\n"):
        return value
    path = Path(value).expanduser()
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise RequestError(
            f"chat_template '{value}' is neither a template (no braces) nor a file: {reason}",
            "chat_template",
            value,
        ) from None


@lru_cache(maxsize=64)
def _compiled(source: str) -> ChatTemplate:
    return ChatTemplate(source)


def _conversation(messages: Sequence[Message]) -> Sequence[Message]:
    if isinstance(messages, str | Mapping) or not isinstance(messages, Sequence):
        raise RequestError(
            "messages must be a list of {'role': …, 'content': …},"
            f" got {type(messages).__name__}",
            "messages",
        )
    if not messages:
        raise RequestError("messages is empty; give at least one message", "messages")
    return messages


@dataclass(frozen=True, slots=True)
class _MessageForm:
    """How a template wants messages."""

    lists: bool  # content may be a list of parts
    text_in_lists: bool  # and always is one
    argument_objects: bool  # a call's arguments are an object, whatever the model wrote

    def read(self, message: Message, index: int) -> dict[str, Any]:
        """A message as the template sees it: plain data without None values."""
        message = _dumped(message)
        if not isinstance(message, Mapping):
            raise _malformed(index, f" must be a dict, got {type(message).__name__}")
        if not isinstance(message.get("role"), str):
            raise _malformed(index, " has no 'role'")
        plain: dict[str, Any] = _plain({k: v for k, v in message.items() if v is not None})
        content = plain.get("content")
        if isinstance(content, str):
            if self.text_in_lists:
                plain["content"] = [{"type": "text", "text": content}]
        elif content is not None:
            if not isinstance(content, list):
                kind = type(message["content"]).__name__
                raise _malformed(
                    index, f"['content'] must be a string or a list of parts, got {kind}"
                )
            parts = [_text_part(part, index) for part in content]
            plain["content"] = parts if self.lists else "\n".join(part["text"] for part in parts)
        if isinstance(plain.get("tool_calls"), list):
            for call in plain["tool_calls"]:
                self._parse_arguments(call, index)
        reasoning = next((plain[k] for k in _REASONING_FIELDS if plain.get(k) is not None), None)
        if reasoning is not None:  # older names of the same thing, which templates may read
            plain = {"thinking": reasoning, **plain, "reasoning_content": reasoning}
        return plain

    def _parse_arguments(self, call: Any, index: int) -> None:
        """OpenAI sends a call's arguments as JSON text; templates expect the object."""
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(function, dict):
            raise _malformed(index, " has a malformed entry in 'tool_calls'")
        function["arguments"] = parsed_arguments(function.get("arguments"), self.argument_objects)


def _malformed(index: int, what: str) -> RequestError:
    return RequestError(f"messages[{index}]{what}", "messages")


def _text_part(part: Any, index: int) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    kind = part.get("type", "text") if isinstance(part, dict) else type(part).__name__
    if kind not in _TEXT_PARTS:
        raise _malformed(index, f" has a content part of type {kind!r}; only text is supported")
    text = part.get(_TEXT_PARTS[kind])
    if not isinstance(text, str):
        raise _malformed(index, f" has a {kind} part without {_TEXT_PARTS[kind]!r}")
    return {**part, "type": "text", "text": text}


def _open_final_message(chat: list[dict[str, Any]], source: str) -> str:
    """Tag the end of the last message's content; returns that content."""
    last = chat[-1]
    content = last.get("content")
    if content is None or "content" not in source:
        raise RequestError(
            "continue_final_message needs a final message with content that the template shows",
            "continue_final_message",
        )
    if isinstance(content, str):
        last["content"] = content + _CONTINUE_TAG
        return content
    if not content:
        raise RequestError(
            "continue_final_message: the final message has no text", "continue_final_message"
        )
    part = content[-1]
    text: str = part["text"]
    last["content"] = [*content[:-1], {**part, "text": text + _CONTINUE_TAG}]
    return text


def _cut_at_tag(text: str, final: str) -> str:
    """The rendered chat up to the end of the final message."""
    tag = _CONTINUE_TAG.strip()
    if tag not in text or final.strip() not in text:
        raise RequestError(
            "continue_final_message: the chat template does not show the final message as it is;"
            " it cannot be continued",
            "continue_final_message",
        )
    at = text.rindex(tag)
    # A template that trims the content has eaten the tag's own space, so the content's too.
    return text[:at] if text.startswith(_CONTINUE_TAG, at) else text[:at].rstrip()


def _tool(tool: Any) -> Any:
    tool = _dumped(tool)
    if isinstance(tool, Mapping):
        return _plain(tool)
    if not (inspect.isfunction(tool) or inspect.ismethod(tool)):
        raise RequestError(
            f"a tool must be a JSON schema or a function, got {type(tool).__name__}", "tools"
        )
    from transformers.utils import get_json_schema

    try:
        return get_json_schema(tool)
    except Exception as error:  # transformers' own parsing errors
        raise RequestError(f"tool {tool.__name__}: {error}", "tools") from None


def _documents(documents: Sequence[Mapping[str, str]] | None) -> list[Any] | None:
    if documents is None:
        return None
    for document in documents:
        if not isinstance(document, Mapping):
            raise RequestError(
                f"documents must be dicts with 'title' and 'text', got {type(document).__name__}",
                "documents",
            )
    return [_plain(document) for document in documents]


def _dumped(value: Any) -> Any:
    """A pydantic model as plain data; anything else as it is."""
    return value.model_dump() if callable(getattr(value, "model_dump", None)) else value


def _plain(value: Any) -> Any:
    """A fresh copy out of plain JSON types, so a template gets hold of no live object."""
    value = _dumped(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return f"<{type(value).__name__}>"
