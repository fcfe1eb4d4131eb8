"""The chunks of a streamed chat answer."""

from collections.abc import AsyncIterator
from typing import Any

from quire.engine.frontend import Update
from quire.server.answer import raise_failed
from quire.server.chat_output import OutputReader
from quire.server.chat_shape import ChatShape
from quire.server.job import Job
from quire.server.json_body import encode_json
from quire.server.logprobs import chat_logprobs
from quire.server.sse import DONE, event
from quire.server.stream_interval import Intervals
from quire.server.usage import count_body, usage_body
from quire.text.tools.events import (
    ContentDelta,
    Event,
    ReasoningDelta,
    ToolCallArguments,
    ToolCallStart,
)


class _Choice:
    """One choice so far."""

    __slots__ = ("called", "head", "index", "num_tokens", "reader", "reasoning")

    def __init__(self, index: int, head: bytes, reader: OutputReader | None) -> None:
        self.index = index
        self.head = head  # of a chunk with nothing but content
        self.reader = reader
        self.num_tokens = 0
        self.called = False
        self.reasoning: list[str] = []


class ChatStream:
    """One streamed answer."""

    def __init__(self, job: Job, shape: ChatShape) -> None:
        self._job = job
        self._shape = shape
        facts = shape.facts
        self._head = {
            "id": facts.id,
            "object": "chat.completion.chunk",
            "created": facts.created,
            "model": facts.model,
        }
        head = b"data: " + encode_json(self._head)[:-1] + b',"choices":[{"index":'
        self._choices = [
            _Choice(i, head + str(i).encode() + b',"delta":{"content":', shape.reader())
            for i in range(job.num_choices)
        ]
        # Whether every token must be in some chunk, even one without text.
        self._every_token = (
            shape.num_top is not None or shape.return_token_ids or shape.continuous_usage
        )

    async def events(self) -> AsyncIterator[bytes]:
        """Every chunk, and `[DONE]`."""
        intervals = Intervals(self._shape.interval)
        first = True
        async for updates in self._job.updates():
            if first:
                _raise_if_failed(updates)
            data = b"".join([self._update(i, update) for i, update in intervals.due(updates)])
            if first:
                first = False
                data = self._openings() + data
            if data:
                yield data
        if self._shape.include_usage:
            yield event(encode_json(self._usage_chunk()))
        yield DONE

    # --- chunks ---

    def _update(self, index: int, update: Update) -> bytes:
        choice = self._choices[index]
        sequence = update.sequence
        choice.num_tokens += len(update.token_ids)
        if choice.reader is None:
            if sequence.finish_reason is None and not self._every_token:
                if not update.text:
                    return b""
                return choice.head + encode_json(update.text) + _PLAIN_TAIL
            deltas: list[dict[str, Any]] = [{"content": update.text}]
        else:
            deltas = self._parsed(choice, choice.reader, update)
        if sequence.finish_reason == "error":
            raise_failed([sequence])
        if not deltas:
            if sequence.finish_reason is None and not self._every_token:
                return b""
            deltas = [{}]
        return self._chunks(choice, update, deltas)

    def _parsed(
        self, choice: _Choice, reader: OutputReader, update: Update
    ) -> list[dict[str, Any]]:
        events = reader.feed(update.text) if update.text else []
        if update.sequence.finish_reason is not None:
            events = [*events, *reader.finish()]
        for each in events:
            if isinstance(each, ToolCallStart):
                choice.called = True
            elif isinstance(each, ReasoningDelta):
                choice.reasoning.append(each.text)
        return [_delta(each) for each in events]

    def _chunks(self, choice: _Choice, update: Update, deltas: list[dict[str, Any]]) -> bytes:
        """One chunk a delta: the first has what belongs to the tokens, the last the end."""
        shape, sequence = self._shape, update.sequence
        chunks = []
        for number, delta in enumerate(deltas):
            body: dict[str, Any] = {
                "index": choice.index,
                "delta": delta,
                "logprobs": None if number else self._logprobs(choice, update),
                "finish_reason": None,
            }
            last = number == len(deltas) - 1 and sequence.finish_reason is not None
            if last:
                body["finish_reason"] = shape.tools.finish_reason(
                    sequence.finish_reason, choice.called
                )
                body["stop_reason"] = sequence.stop_reason
            shows_ids = shape.return_token_ids and not number
            body["token_ids"] = update.token_ids if shows_ids else None
            chunks.append(self._chunk(body, choice, last))
        return b"".join(chunks)

    def _chunk(self, body: dict[str, Any], choice: _Choice, last: bool) -> bytes:
        shape = self._shape
        chunk: dict[str, Any] = {**self._head, "choices": [body]}
        if shape.continuous_usage:
            chunk["usage"] = self._usage_so_far(choice)
        chunk["kv_transfer_params"] = None
        if last and not shape.include_usage:
            chunk["system_fingerprint"] = shape.facts.fingerprint
        return event(encode_json(chunk))

    def _logprobs(self, choice: _Choice, update: Update) -> dict[str, Any] | None:
        num_top = self._shape.num_top
        if num_top is None or not update.token_ids:
            return None
        start = choice.num_tokens - len(update.token_ids)
        positions = update.sequence.logprobs(self._shape.tokenizer, start) or []
        return chat_logprobs(positions[: len(update.token_ids)], num_top, self._shape.writer)

    def _openings(self) -> bytes:
        """Each choice's first chunk: whose turn it is, and what is echoed."""
        shape = self._shape
        prompt_ids = self._job.requests[0].message.prompt_token_ids
        chunks = []
        for choice in self._choices:
            opening = {
                "index": choice.index,
                "delta": {"role": shape.role, "content": ""},
                "logprobs": None,
                "finish_reason": None,
            }
            chunk: dict[str, Any] = {**self._head, "choices": [opening]}
            if shape.continuous_usage:
                chunk["usage"] = count_body(len(prompt_ids), 0)
            chunk["prompt_token_ids"] = prompt_ids if shape.return_token_ids else None
            chunk["prompt_text"] = shape.prompt_text if shape.return_prompt_text else None
            chunks.append(event(encode_json(chunk)))
            if shape.echo:
                chunks.append(choice.head + encode_json(shape.echo) + _PLAIN_TAIL)
        return b"".join(chunks)

    # --- usage ---

    def _usage_so_far(self, choice: _Choice) -> dict[str, int]:
        return count_body(len(self._job.requests[0].message.prompt_token_ids), choice.num_tokens)

    def _usage_chunk(self) -> dict[str, Any]:
        shape = self._shape
        reasoning = None
        if shape.reasoning_parser is not None:
            counts = [shape.reasoning_tokens("".join(c.reasoning)) for c in self._choices]
            reasoning = sum(n or 0 for n in counts)
        usage = usage_body(
            self._job.requests, details=shape.prompt_details, reasoning_tokens=reasoning
        )
        return {
            **self._head,
            "choices": [],
            "usage": usage,
            "system_fingerprint": shape.facts.fingerprint,
        }


def _raise_if_failed(updates: dict[int, Update]) -> None:
    """Before anything was sent, an error can still be a plain one."""
    raise_failed([update.sequence for update in updates.values()])


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
