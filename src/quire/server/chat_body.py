"""The whole body of a chat answer that is not streamed."""

from typing import Any

from quire.engine.frontend_request import TrackedRequest, TrackedSequence
from quire.server.chat_shape import ChatShape
from quire.server.logprobs import chat_logprobs, prompt_logprobs_body
from quire.server.usage import usage_body
from quire.text.tools.events import ParsedText, assemble


def chat_body(request: TrackedRequest, shape: ChatShape) -> dict[str, Any]:
    """The answer."""
    parsed = [parse_answer(sequence, shape) for sequence in request.sequences]
    reasoning = [shape.reasoning_tokens(each.reasoning) for each in parsed]
    return {
        "id": shape.facts.id,
        "object": "chat.completion",
        "created": shape.facts.created,
        "model": shape.facts.model,
        "choices": [
            _choice(sequence, each, shape) for sequence, each in zip(request.sequences, parsed)
        ],
        "service_tier": None,
        "system_fingerprint": shape.facts.fingerprint,
        "usage": usage_body(
            [request],
            details=shape.prompt_details,
            reasoning_tokens=sum(n or 0 for n in reasoning) if shape.reasoning_parser else None,
            nulls=True,
        ),
        "prompt_logprobs": prompt_logprobs_body(request.prompt_logprobs),
        "prompt_token_ids": request.message.prompt_token_ids if shape.return_token_ids else None,
        "prompt_text": shape.prompt_text if shape.return_prompt_text else None,
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "metrics": None,
    }


def parse_answer(sequence: TrackedSequence, shape: ChatShape) -> ParsedText:
    """A finished sequence's text, taken apart just as a stream would have been."""
    reader = shape.reader()
    if reader is None:
        return ParsedText(sequence.text)
    events = reader.feed(sequence.text) if sequence.text else []
    return assemble([*events, *reader.finish()])


def _choice(sequence: TrackedSequence, parsed: ParsedText, shape: ChatShape) -> dict[str, Any]:
    logprobs = None
    if shape.num_top is not None:
        positions = sequence.logprobs(shape.tokenizer) or []
        logprobs = chat_logprobs(positions, shape.num_top, shape.writer)
    return {
        "index": sequence.index,
        "message": _message(parsed, shape),
        "logprobs": logprobs,
        "finish_reason": shape.tools.finish_reason(sequence.finish_reason, bool(parsed.tool_calls)),
        "stop_reason": sequence.stop_reason,
        "token_ids": sequence.token_ids if shape.return_token_ids else None,
        "routed_experts": None,
        "weight_versions": None,
    }


def _message(parsed: ParsedText, shape: ChatShape) -> dict[str, Any]:
    content: str | None = shape.echo + parsed.content
    if not content and shape.tools.content_may_be_null(bool(parsed.tool_calls), parsed.reasoning):
        content = None
    reasoning = parsed.reasoning or None
    message: dict[str, Any] = {
        "role": shape.role,
        "content": content,
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
        "reasoning": reasoning,
        "reasoning_content": reasoning,
    }
    if parsed.tool_calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in parsed.tool_calls
        ]
    return message
