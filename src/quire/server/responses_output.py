"""A turn as items of the responses API, and the events that tell of them while they are made."""

from typing import Any, Literal

from quire.server.as_chat import Part, PartEvent, PartReader, Piece, TurnCounts
from quire.server.replies import random_id

Status = Literal["in_progress", "completed", "incomplete"]
EventBody = dict[str, Any]

_PREFIXES = {"reasoning": "rs", "text": "msg", "call": "fc"}
_TYPES = {"reasoning": "reasoning", "text": "message", "call": "function_call"}


class OutputItems:
    """The items of one response. Events have everything but their sequence number."""

    def __init__(self) -> None:
        self._reader = PartReader()
        self._ids: list[str] = []
        self._logprobs: list[list[dict[str, Any]]] = []  # a part's
        self._last: Status = "completed"

    def add(self, piece: Piece) -> list[EventBody]:
        """More of the turn: its events."""
        logprobs = piece.logprobs
        made: list[EventBody] = []
        for event in self._reader.feed(piece.events):
            if event.what == "more" and event.part.kind == "text":
                part = event.part
                self._logprobs[part.index] += logprobs
                name = "output_text.delta"
                made.append(self._about(part, name, delta=event.text, logprobs=logprobs))
                logprobs = []
            else:
                made += self._events(event)
        return made

    def finish(self, complete: bool) -> list[EventBody]:
        """The end: its events. An open item that was cut short is incomplete."""
        self._last = "completed" if complete else "incomplete"
        return [made for event in self._reader.finish() for made in self._events(event)]

    def items(self) -> list[dict[str, Any]]:
        """All of them, as they are now."""
        parts = self._reader.parts
        last = len(parts) - 1
        return [
            self._item(part, self._last if part.index == last else "completed") for part in parts
        ]

    # --- one part ---

    def _events(self, event: PartEvent) -> list[EventBody]:
        part = event.part
        if event.what == "open":
            self._ids.append(f"{_PREFIXES[part.kind]}_{random_id()}")
            self._logprobs.append([])
            return self._opening(part)
        if event.what == "close":
            status = self._last if part is self._reader.parts[-1] else "completed"
            return self._closing(part, status)
        name = "reasoning_text" if part.kind == "reasoning" else "function_call_arguments"
        return [self._about(part, f"{name}.delta", delta=event.text)]

    def _opening(self, part: Part) -> list[EventBody]:
        added = self._about_item(part, "added", "in_progress")
        if part.kind == "call":
            return [added]
        empty = self._content(part) | {"text": ""}  # clients add the deltas to it
        return [added, self._about(part, "content_part.added", part=empty)]

    def _closing(self, part: Part, status: Status) -> list[EventBody]:
        done = self._about_item(part, "done", status)
        if part.kind == "call":
            call = {"name": part.name, "arguments": part.text}
            return [self._about(part, "function_call_arguments.done", **call), done]
        content = self._content(part)
        facts: dict[str, Any] = {"text": part.text}
        if part.kind == "text":
            facts["logprobs"] = content["logprobs"]
        return [
            self._about(part, f"{content['type']}.done", **facts),
            self._about(part, "content_part.done", part=content),
            done,
        ]

    def _about_item(self, part: Part, what: str, status: Status) -> EventBody:
        return {
            "type": f"response.output_item.{what}",
            "output_index": part.index,
            "item": self._item(part, status),
        }

    def _about(self, part: Part, name: str, /, **facts: Any) -> EventBody:
        body: EventBody = {
            "type": f"response.{name}",
            "item_id": self._ids[part.index],
            "output_index": part.index,
        }
        if part.kind != "call":
            body["content_index"] = 0
        return {**body, **facts}

    def _content(self, part: Part) -> dict[str, Any]:
        if part.kind == "reasoning":
            return {"type": "reasoning_text", "text": part.text}
        return {
            "type": "output_text",
            "text": part.text,
            "annotations": [],
            "logprobs": list(self._logprobs[part.index]),
        }

    def _item(self, part: Part, status: Status) -> dict[str, Any]:
        head = {"id": self._ids[part.index], "status": status, "type": _TYPES[part.kind]}
        if part.kind == "call":
            return {**head, "call_id": part.call_id, "name": part.name, "arguments": part.text}
        content = [self._content(part)] if status != "in_progress" else []
        if part.kind == "reasoning":
            return {**head, "summary": [], "content": content, "encrypted_content": None}
        return {**head, "role": "assistant", "content": content}


def usage_of(counts: TurnCounts) -> dict[str, Any]:
    """The `usage` of a response."""
    return {
        "input_tokens": counts.prompt,
        "input_tokens_details": {"cached_tokens": counts.cached, "cache_write_tokens": 0},
        "output_tokens": counts.completion,
        "output_tokens_details": {"reasoning_tokens": counts.reasoning},
        "total_tokens": counts.prompt + counts.completion,
    }
