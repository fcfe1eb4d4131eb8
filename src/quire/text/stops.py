"""Stop strings over text that arrives in pieces.

The match that completes first wins (of two that complete together, the longer), so the result
does not depend on how the text was cut into deltas. Text that may be the beginning of a stop
string is held back, so what is streamed never shows part of one.
"""

from collections.abc import Sequence


class StopMatcher:
    """One sequence's stop strings.

    Args:
        stops: non-empty strings.
        include: keep the stop string in the text.
    """

    __slots__ = ("_held", "_include", "_prefixes", "_reach", "_stops", "matched")

    def __init__(self, stops: Sequence[str], include: bool = False) -> None:
        self._stops = tuple(dict.fromkeys(stops))
        self._include = include
        self._held = ""
        self._reach = max(map(len, self._stops)) - 1  # longest tail that may begin a stop string
        self._prefixes = frozenset(s[:n] for s in self._stops for n in range(1, len(s)))
        self.matched: str | None = None

    def feed(self, delta: str) -> str:
        """The text that may be shown. Once `matched` is set, the text has ended."""
        if self.matched is not None or not delta:
            return ""
        text = self._held + delta
        found = self._first_match(text)
        if found is not None:
            start, stop = found
            self.matched = stop
            self._held = ""
            return text[: start + len(stop)] if self._include else text[:start]
        held = self._tail_length(text)
        cut = len(text) - held
        self._held = text[cut:]
        return text[:cut]

    def skip(self, delta: str) -> str:
        """Text in which no stop string counts (before `min_tokens`), nor begins."""
        shown, self._held = self._held + delta, ""
        return shown

    def finish(self) -> str:
        shown, self._held = self._held, ""
        return shown

    def _first_match(self, text: str) -> tuple[int, str] | None:
        best: tuple[int, int, str] | None = None  # end, start, string
        for stop in self._stops:
            start = text.find(stop)
            if start >= 0:
                candidate = (start + len(stop), start, stop)
                if best is None or candidate < best:
                    best = candidate
        return None if best is None else (best[1], best[2])

    def _tail_length(self, text: str) -> int:
        for length in range(min(self._reach, len(text)), 0, -1):
            if text[-length:] in self._prefixes:
                return length
        return 0
