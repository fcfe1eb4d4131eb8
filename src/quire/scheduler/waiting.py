"""The waiting queue: sequences in policy order, with cheap removal. It never chooses."""

import heapq
from collections.abc import Iterator

from quire.scheduler.sequence import OrderKey, Sequence, SequenceStatus


class WaitingQueue:
    """A heap by `Sequence.key`. Aborted sequences are dropped when they come to the top, or
    when the heap has doubled since the last sweep: those behind a head that cannot start yet
    must not pile up."""

    __slots__ = ("_heap", "_sweep_at")

    def __init__(self) -> None:
        self._heap: list[tuple[OrderKey, Sequence]] = []  # keys are unique: sequences never compare
        self._sweep_at = 64

    def push(self, sequence: Sequence) -> None:
        """Add a sequence that is WAITING and not in the queue."""
        heapq.heappush(self._heap, (sequence.key, sequence))
        if len(self._heap) >= self._sweep_at:
            self._heap = [(s.key, s) for s in self]
            heapq.heapify(self._heap)
            self._sweep_at = max(64, 2 * len(self._heap))

    def head(self) -> Sequence | None:
        """The first in order, left where it is."""
        heap = self._heap
        while heap and heap[0][1].status is not SequenceStatus.WAITING:
            heapq.heappop(heap)
        return heap[0][1] if heap else None

    def pop(self) -> Sequence:
        return heapq.heappop(self._heap)[1]

    def __iter__(self) -> Iterator[Sequence]:
        """In no particular order."""
        return (s for _, s in self._heap if s.status is SequenceStatus.WAITING)
