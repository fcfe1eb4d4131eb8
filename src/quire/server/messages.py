"""POST /v1/messages and /v1/messages/count_tokens: chat in Anthropic's shape, a turn as content
blocks and the events that tell of them."""

import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request, Response

from quire.core.outputs import FinishReason
from quire.server.answer import respond
from quire.server.as_chat import ChatTurn, Part, PartEvent, PartReader, Piece, TurnCounts
from quire.server.chat import open_chat
from quire.server.chat_prompt import chat_text
from quire.server.errors import as_api_error
from quire.server.messages_input import chat_request
from quire.server.prompts import offload
from quire.server.protocol.messages import CountTokensRequest, MessagesRequest
from quire.server.replies import encode_json, json_response, random_id
from quire.server.routes import post, state_of
from quire.server.sse import named_event
from quire.server.state import ServerState, Serving

_PING = named_event("ping", b'{"type":"ping"}')

router = APIRouter()


@post(router, "/v1/messages", "Anthropic")
async def create_message(body: MessagesRequest, http: Request) -> Response:
    """Answer a conversation."""
    state = state_of(http)
    state.ready()
    job, shape = await open_chat(state, chat_request(body), http, "messages")
    answer = MessageAnswer(ChatTurn(job, shape), shape.facts.model)
    headers = {"request-id": answer.id}
    return await respond(
        job,
        http,
        body.stream,
        answer.events,
        answer.whole,
        headers=headers,
        on_error=lambda error: _encoded(as_api_error(error).anthropic_body()),
    )


@post(router, "/v1/messages/count_tokens", "Anthropic")
async def count_tokens(body: CountTokensRequest, http: Request) -> Response:
    """How many tokens the prompt of a conversation has."""
    state = state_of(http)
    serving = state.ready(body.model)
    count = await offload(len(repr(body.messages)), _count, state, serving, body)
    return json_response({"input_tokens": count})


def _count(state: ServerState, serving: Serving, body: CountTokensRequest) -> int:
    text = chat_text(state, serving, chat_request(body))
    return len(serving.tokenizer.encode(text, add_special_tokens=False))


class MessageAnswer:
    """One message while it is made."""

    def __init__(self, turn: ChatTurn, model: str) -> None:
        self.id = f"msg_{random_id()}{random_id()}"
        self._turn = turn
        self._model = model
        self._blocks = ContentBlocks()

    def whole(self) -> dict[str, Any]:
        """The body, once the job has finished."""
        self._blocks.add(self._turn.whole())
        self._blocks.finish()
        return self._message()

    async def events(self) -> AsyncIterator[bytes]:
        yield _encoded({"type": "message_start", "message": self._message()}) + _PING
        async for piece in self._turn.pieces():
            made = self._blocks.add(piece)
            if made:
                yield _encoded(*made)
        message = self._message()
        delta = {name: message[name] for name in ("stop_reason", "stop_sequence")}
        ending = {"type": "message_delta", "delta": delta, "usage": message["usage"]}
        yield _encoded(*self._blocks.finish(), ending, {"type": "message_stop"})

    def _message(self) -> dict[str, Any]:
        sequence = self._turn.sequence
        reason, matched = self._blocks.stop_reason(sequence.finish_reason, sequence.stop_reason)
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": self._blocks.blocks(),
            "stop_reason": reason,
            "stop_sequence": matched,
            "usage": usage_of(self._turn.counts()),
        }


def _encoded(*events: dict[str, Any]) -> bytes:
    return b"".join(named_event(each["type"], encode_json(each)) for each in events)


EventBody = dict[str, Any]

# Part -> (its block's type, the field that holds its text; its deltas' type, their field).
_FORMS = {
    "reasoning": ("thinking", "thinking", "thinking_delta", "thinking"),
    "text": ("text", "text", "text_delta", "text"),
    "call": ("tool_use", "input", "input_json_delta", "partial_json"),
}


class ContentBlocks:
    """The blocks of one message."""

    def __init__(self) -> None:
        self._reader = PartReader()

    def add(self, piece: Piece) -> list[EventBody]:
        return [made for event in self._reader.feed(piece.events) for made in _events(event)]

    def finish(self) -> list[EventBody]:
        return [made for event in self._reader.finish() for made in _events(event)]

    def blocks(self) -> list[dict[str, Any]]:
        """All of them, as they are now."""
        return [
            _block(part, _arguments(part.text) if part.kind == "call" else part.text)
            for part in self._reader.parts
        ]

    def stop_reason(
        self, reason: FinishReason | None, matched: int | str | None
    ) -> tuple[str | None, str | None]:
        """(`stop_reason`, `stop_sequence`) of the message."""
        if reason is None:
            return None, None
        if reason == "length":
            return "max_tokens", None
        if reason == "stop" and isinstance(matched, str):
            return "stop_sequence", matched
        calls = any(part.kind == "call" for part in self._reader.parts)
        return ("tool_use" if calls else "end_turn"), None


def usage_of(counts: TurnCounts) -> dict[str, int]:
    """The `usage` of a message: what came from the cache is counted apart."""
    return {
        "input_tokens": counts.prompt - counts.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": counts.cached,
        "output_tokens": counts.completion,
    }


def _events(event: PartEvent) -> list[EventBody]:
    part = event.part
    if event.what == "open":
        block = _block(part, {} if part.kind == "call" else "")
        return [{"type": "content_block_start", "index": part.index, "content_block": block}]
    if event.what == "more":
        *_, kind, field = _FORMS[part.kind]
        return [_delta(part, kind, field, event.text)]
    stop = {"type": "content_block_stop", "index": part.index}
    if part.kind == "reasoning":  # clients wait for a signature; nobody here checks it
        return [_delta(part, "signature_delta", "signature", ""), stop]
    return [stop]


def _delta(part: Part, kind: str, field: str, text: str) -> EventBody:
    delta = {"type": kind, field: text}
    return {"type": "content_block_delta", "index": part.index, "delta": delta}


def _block(part: Part, value: Any) -> dict[str, Any]:
    kind, field, *_ = _FORMS[part.kind]
    more = {"call": {"id": part.call_id, "name": part.name}, "reasoning": {"signature": ""}}
    return {"type": kind, **more.get(part.kind, {}), field: value}


def _arguments(text: str) -> dict[str, Any]:
    """A call's arguments. A call that max_tokens cut short has none that could be read."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
