"""A turn as content blocks of the messages API, and the events that tell of them."""

import json
from typing import Any

from quire.core.outputs import FinishReason
from quire.server.chat_turn import Part, PartEvent, PartReader, Piece, TurnCounts

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
