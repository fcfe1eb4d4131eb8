"""`stream_interval`: fewer, larger chunks, where a client asks for them."""

from collections.abc import Iterable

from quire.engine.frontend import Update


class Intervals:
    """Holds a choice's updates back until `interval` tokens have come; its first tokens and its
    last are never held."""

    def __init__(self, interval: int) -> None:
        self._interval = interval
        self._held: dict[int, Update] = {}
        self._begun: set[int] = set()

    def due(self, updates: dict[int, Update]) -> Iterable[tuple[int, Update]]:
        """What is to be sent now."""
        if self._interval == 1:
            return updates.items()
        return self._due(updates)

    def _due(self, updates: dict[int, Update]) -> list[tuple[int, Update]]:
        due = []
        for choice, update in updates.items():
            held = self._held.pop(choice, None)
            if held is not None:
                update.text = held.text + update.text
                update.token_ids = held.token_ids + update.token_ids
            if (
                choice not in self._begun
                or len(update.token_ids) >= self._interval
                or update.sequence.finish_reason is not None
            ):
                self._begun.add(choice)
                due.append((choice, update))
            else:
                self._held[choice] = update
        return due
