"""Which graph a step runs in, and which is captured next. Integers only.

A batch is padded to a *bucket*. Where its own has no graph yet, that of a larger one serves if it
is near, else it runs without one. What that costs is added up, and a bucket for which it is more
than a little gets its own graph, where it is most first.
"""

from collections.abc import Sequence

# A graph of up to so many times the lines is near: attention skips padding, and the weights, read
# once, are most of the rest.
NEAR = 2
# What the lack of a bucket's graph may cost, in steps that are all padding but for one part: a
# capture takes 40 ms beside the engine, a padded line of 256 12 us (Llama-8B on an H200, 2026-11).
PATIENCE = 8.0
# What a decode step without any graph costs, 10 ms more: what was needed but once is not captured.
EAGER = 4.0
# With prompts it costs 15 to 75 ms more (Qwen3-0.6B): as much as its capture, or twice.
EAGER_PROMPTS = PATIENCE


def buckets(most: int, unit: int, fewer: Sequence[int] = ()) -> tuple[int, ...]:
    """Sizes up to `most` that graphs are captured for: `fewer` than a unit, then with at most an
    eighth, or nearly a unit, of padding."""
    sizes = [*fewer, *range(unit, 16 * unit, unit)]
    while sizes[-1] < most:
        start = max(16 * unit, sizes[-1])
        sizes += range(start, 2 * start + 1, start // 8)
    return (*sorted({size for size in sizes if size < most}), most)


def ladder(sizes: Sequence[int]) -> tuple[int, ...]:
    """The buckets that leave no step without a near graph, smallest first: there the host is the
    most in the way."""
    return tuple(n for n in sizes if n == sizes[-1] or n & (n - 1) == 0)


class CapturePolicy:
    """Tell it what is `captured` and what was `refused`, for want of memory, and it chooses.

    One thread may choose while another asks what is next.
    """

    def __init__(self, sizes: Sequence[int], ahead: Sequence[int], eager: float = EAGER) -> None:
        """`sizes` from the smallest to the largest, those to capture ahead of any need, and what a
        step without a graph costs."""
        self.captured: set[int] = set()
        self.refused: set[int] = set()
        self._buckets = sizes
        self.ladder = ahead
        self._eager = eager
        self._lost = dict.fromkeys(sizes, 0.0)  # steps' worth, by bucket

    def bucket(self, count: int) -> int:
        """A batch's own."""
        return next(size for size in self._buckets if size >= count)

    def choose(self, count: int) -> int | None:
        """The captured bucket to run a batch of `count` in; None: without a graph."""
        bucket = self.bucket(count)
        if bucket in self.captured:
            return bucket
        sizes = (size for size in self._buckets if bucket < size <= NEAR * bucket)
        near = next((size for size in sizes if size in self.captured), None)
        self._lost[bucket] += self._eager if near is None else near / bucket - 1
        return near

    def wanted(self) -> int | None:
        """What to capture now: where its lack has cost most; None if that is little."""
        bucket = max(self._open(self._buckets), key=self._lost.__getitem__, default=None)
        return None if bucket is None or self._lost[bucket] < PATIENCE else bucket

    def ahead(self) -> int | None:
        """What to capture while there is nothing else to do: what was missed, then the ladder."""
        missed = [bucket for bucket in self._open(self._buckets) if self._lost[bucket]]
        most = max(missed, key=self._lost.__getitem__, default=None)
        return next(iter(self._open(self.ladder)), None) if most is None else most

    def _open(self, sizes: Sequence[int]) -> list[int]:
        return [n for n in sizes if n not in self.captured and n not in self.refused]
