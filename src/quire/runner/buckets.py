"""Which graph a step runs in, and which is captured when. Integers only.

A batch is padded to a *bucket*. Where its own has no graph yet, that of a larger one serves if it
is near; the padding this costs is added up, and once it has cost as much as a capture, the bucket
gets its own: never more than twice what the best choice in hindsight would have cost.
"""

from collections import Counter
from collections.abc import Sequence

# A graph of up to so many times the lines is near: attention skips padding, and the weights, read
# once, are most of the rest.
NEAR = 2
# A capture (40 ms) costs as much as so many steps that are all padding but for one part: a padded
# line of 256 takes 12 us (Llama-8B on an H200, 2026-11).
CAPTURE_COST = 16


def buckets(max_rows: int) -> tuple[int, ...]:
    """Line counts that graphs are captured for: at most an eighth, or seven lines, of padding."""
    sizes = [1, 2, 4, *range(8, 128, 8)]
    while sizes[-1] < max_rows:
        start = max(128, sizes[-1])
        sizes += range(start, 2 * start + 1, start // 8)
    return (*sorted({size for size in sizes if size < max_rows}), max_rows)


def ladder(max_rows: int) -> tuple[int, ...]:
    """The buckets that leave no batch without a near graph, smallest first: there the host is the
    most in the way."""
    return tuple(n for n in buckets(max_rows) if n == max_rows or n & (n - 1) == 0)


class CapturePolicy:
    """Tell it what is `captured` and what was `refused`, for want of memory, and it chooses."""

    def __init__(self, sizes: Sequence[int], ahead: Sequence[int]) -> None:
        """`sizes` from the smallest to the largest, and those to capture ahead of any need."""
        self.captured: set[int] = set()
        self.refused: set[int] = set()
        self._buckets = sizes
        self._ladder = ahead
        self._misses: Counter[int] = Counter()  # by bucket
        self._padding: dict[int, float] = {}  # by bucket: steps' worth of it

    def choose(self, count: int) -> int | None:
        """The bucket to run a batch of `count` in, captured or to be captured now. None: without a
        graph, as a bucket that is needed but once would only be captured for that."""
        bucket = next(size for size in self._buckets if size >= count)
        if bucket in self.captured:
            return bucket
        self._misses[bucket] += 1
        near = [size for size in self.captured if bucket < size <= NEAR * bucket]
        if not near:
            return bucket if self._misses[bucket] > 1 and bucket not in self.refused else None
        self._padding[bucket] = self._padding.get(bucket, 0.0) + min(near) / bucket - 1
        enough = self._padding[bucket] < CAPTURE_COST or bucket in self.refused
        return min(near) if enough else bucket

    def ahead(self) -> int | None:
        """What to capture while there is time: what was missed most, then the ladder."""
        missed = (bucket for bucket, _ in self._misses.most_common())
        done = self.captured | self.refused
        return next((b for b in (*missed, *self._ladder) if b not in done), None)
