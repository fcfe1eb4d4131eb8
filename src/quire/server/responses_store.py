"""Finished (and background) responses, kept in memory for the turns that go on from them.

Bounded in number and in bytes; the least recently used goes first. A response is visible only
to the API key that made it.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from quire.server.errors import APIError
from quire.server.replies import encode_json


@dataclass(slots=True)
class StoredResponse:
    """A response.

    Args:
        body: the answer as it is now.
        items: the whole conversation, this turn's input and output included.
        owner: the API key's name.
        task: what makes it, while it runs in the background.
    """

    body: dict[str, Any]
    items: list[dict[str, Any]]
    input_items: list[dict[str, Any]]
    owner: str | None
    task: "asyncio.Task[None] | None" = None
    num_bytes: int = field(default=0, init=False)


class ResponseStore:
    """What is kept. `max_count` and `max_bytes` hold for all of them together."""

    def __init__(self, max_count: int, max_bytes: int) -> None:
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._kept: OrderedDict[str, StoredResponse] = OrderedDict()  # least recently used first
        self.num_bytes = 0  # as JSON

    def put(self, response: StoredResponse) -> None:
        """Keep a response, or what has become of it. One too large for the store is not kept."""
        name = response.body["id"]
        self._drop(name)
        size = len(encode_json(response.body)) + len(encode_json(response.items))
        response.num_bytes = size + len(encode_json(response.input_items))
        if response.num_bytes > self._max_bytes and response.task is None:
            return
        self._kept[name] = response
        self.num_bytes += response.num_bytes
        self._make_room()

    def get(self, name: str, owner: str | None, param: str = "response_id") -> StoredResponse:
        """A response of that owner; `param` is where its name was given.

        Raises:
            APIError: 404, there is none (any more).
        """
        response = self._kept.get(name)
        if response is None or response.owner != owner:
            raise APIError(
                404,
                f"Response with id '{name}' not found: it was not stored, was deleted, or is too"
                " long ago.",
                "NotFoundError",
                param,
            )
        self._kept.move_to_end(name)
        return response

    def delete(self, name: str, owner: str | None) -> None:
        """Forget it, ending what runs. Raises as `get`."""
        response = self.get(name, owner)
        self._drop(name)
        if response.task is not None:
            response.task.cancel()

    def _drop(self, name: str) -> None:
        response = self._kept.pop(name, None)
        if response is not None:
            self.num_bytes -= response.num_bytes

    def _make_room(self) -> None:
        while self._kept and (
            len(self._kept) > self._max_count or self.num_bytes > self._max_bytes
        ):
            # What still runs stays: nobody else would end it.
            finished = (name for name, kept in self._kept.items() if kept.task is None)
            oldest = next(finished, None)
            if oldest is None:
                return
            self._drop(oldest)

    def __len__(self) -> int:
        return len(self._kept)
