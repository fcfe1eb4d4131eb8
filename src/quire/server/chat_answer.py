"""A chat answer in OpenAI's shape: its whole body, or the chunks of its stream."""

from collections.abc import AsyncIterator
from typing import Any

from quire.engine.frontend import Update
from quire.engine.frontend_request import TrackedRequest, TrackedSequence
from quire.server.answer import chunk_events, count_body
from quire.server.chat_shape import ChatReader, ChatShape
from quire.server.job import Job
from quire.server.logprobs import prompt_logprobs_body
from quire.server.replies import encode_json
from quire.server.sse import event
from quire.text.tools.events import (
    ContentDelta,
    Event,
    ParsedText,
    ReasoningDelta,
    ToolCallArguments,
    ToolCallStart,
    assemble,
)

# --- whole ---


def chat_body(request: TrackedRequest, shape: ChatShape) -> dict[str, Any]:
    """The answer to a request that is finished."""
    readers = [ChatReader(shape, sequence.index) for sequence in request.sequences]
    choices = [_choice(reader, s, shape) for reader, s in zip(readers, request.sequences)]
    return shape.facts.whole(
        "chat.completion",
        choices,
        [request],
        shape.reasoning_tokens(readers),
        prompt_logprobs=prompt_logprobs_body(request.prompt_logprobs),
        prompt_token_ids=request.message.prompt_token_ids if shape.return_token_ids else None,
        prompt_text=shape.prompt_text if shape.return_prompt_text else None,
    )


def _choice(reader: ChatReader, sequence: TrackedSequence, shape: ChatShape) -> dict[str, Any]:
    parsed = assemble(reader.read(sequence.text, len(sequence.token_ids), True))
    logprobs = reader.logprobs(sequence, len(sequence.token_ids))
    return {
        "index": sequence.index,
        "message": _message(parsed, shape),
        "logprobs": None if logprobs is None else {"content": logprobs},
        "finish_reason": shape.tools.finish_reason(sequence.finish_reason, reader.called),
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


# --- streamed ---


class ChatStream:
    """The chunks of one answer."""

    def __init__(self, job: Job, shape: ChatShape) -> None:
        self._job = job
        self._shape = shape
        self._head = shape.facts.head("chat.completion.chunk")
        self._readers = [ChatReader(shape, i) for i in range(len(job.sequences))]
        head = b"data: " + encode_json(self._head)[:-1] + b',"choices":[{"index":'
        # Of chunks with nothing but content, by choice.
        self._plain_heads = [
            head + str(i).encode() + b',"delta":{"content":' for i in range(len(self._readers))
        ]
        # Whether every token must be in some chunk, even one without text.
        self._every_token = (
            shape.num_top is not None or shape.return_token_ids or shape.facts.continuous_usage
        )

    def events(self) -> AsyncIterator[bytes]:
        return chunk_events(
            self._job,
            self._shape.facts,
            self._head,
            self._update,
            opening=self._openings,
            reasoning_tokens=lambda: self._shape.reasoning_tokens(self._readers),
        )

    def _update(self, index: int, update: Update) -> bytes:
        reader, ended = self._readers[index], update.sequence.finish_reason is not None
        quiet = not ended and not self._every_token
        if quiet and reader.is_plain:
            return self._plain(index, update.text) if update.text else b""
        events = reader.read(update.text, len(update.token_ids), ended)
        if not events and quiet:
            return b""
        deltas = [_delta(each) for each in events]
        if not deltas:
            deltas = [{"content": ""} if reader.is_plain else {}]
        return self._chunks(reader, update, deltas)

    def _plain(self, index: int, text: str) -> bytes:
        return self._plain_heads[index] + encode_json(text) + _PLAIN_TAIL

    def _chunks(self, reader: ChatReader, update: Update, deltas: list[dict[str, Any]]) -> bytes:
        """One chunk a delta: the first has what belongs to the tokens, the last the end."""
        shape, sequence = self._shape, update.sequence
        logprobs = reader.logprobs(sequence, len(update.token_ids)) if update.token_ids else None
        chunks = []
        for number, delta in enumerate(deltas):
            body: dict[str, Any] = {"index": reader.index, "delta": delta, "logprobs": None}
            if not number and logprobs is not None:
                body["logprobs"] = {"content": logprobs}
            body["finish_reason"] = None
            if number == len(deltas) - 1 and sequence.finish_reason is not None:
                body["finish_reason"] = shape.tools.finish_reason(
                    sequence.finish_reason, reader.called
                )
                body["stop_reason"] = sequence.stop_reason
            shows_ids = shape.return_token_ids and not number
            body["token_ids"] = update.token_ids if shows_ids else None
            chunks.append(self._chunk(reader, body))
        return b"".join(chunks)

    def _chunk(self, reader: ChatReader, body: dict[str, Any]) -> bytes:
        facts = self._shape.facts
        chunk: dict[str, Any] = {**self._head, "choices": [body]}
        if facts.continuous_usage:
            chunk["usage"] = self._usage_so_far(reader.num_tokens)
        chunk["kv_transfer_params"] = None
        if body["finish_reason"] is not None and not facts.include_usage:
            chunk["system_fingerprint"] = facts.fingerprint
        return event(encode_json(chunk))

    def _openings(self) -> bytes:
        """Each choice's first chunk: whose turn it is, and what is echoed."""
        shape = self._shape
        prompt_ids = self._job.requests[0].message.prompt_token_ids
        chunks = []
        for index in range(len(self._readers)):
            opening = {
                "index": index,
                "delta": {"role": shape.role, "content": ""},
                "logprobs": None,
                "finish_reason": None,
            }
            chunk: dict[str, Any] = {**self._head, "choices": [opening]}
            if shape.facts.continuous_usage:
                chunk["usage"] = self._usage_so_far(0)
            chunk["prompt_token_ids"] = prompt_ids if shape.return_token_ids else None
            chunk["prompt_text"] = shape.prompt_text if shape.return_prompt_text else None
            chunks.append(event(encode_json(chunk)))
            if shape.echo:
                chunks.append(self._plain(index, shape.echo))
        return b"".join(chunks)

    def _usage_so_far(self, num_tokens: int) -> dict[str, int]:
        return count_body(len(self._job.requests[0].message.prompt_token_ids), num_tokens)


def _delta(each: Event) -> dict[str, Any]:
    """An event as the client sees it."""
    match each:
        case ContentDelta(text):
            return {"content": text}
        case ReasoningDelta(text):
            return {"reasoning": text, "reasoning_content": text}
        case ToolCallStart(index, call_id, name):
            start = {
                "id": call_id,
                "type": "function",
                "index": index,
                "function": {"name": name},
            }
            return {"tool_calls": [start]}
        case ToolCallArguments(index, text):
            return {"tool_calls": [{"index": index, "function": {"arguments": text}}]}


_PLAIN_TAIL = (
    b'},"logprobs":null,"finish_reason":null,"token_ids":null}],"kv_transfer_params":null}\n\n'
)
