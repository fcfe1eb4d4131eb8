"""How many pages a sequence needs, and how long one sequence may grow: pure arithmetic.

The memory plan sizes the cache with these formulas and the scheduler refuses requests with
them, so that what one promises the other can keep.
"""

from collections.abc import Sequence

from quire.core.kv_spec import KVGroup

UNBOUNDED = 2**62  # a cache of windows alone holds a sequence of any length


def first_live_column(num_computed_tokens: int, window: int | None, page_size: int) -> int:
    """The first page-table column that queries at `num_computed_tokens` or later can see.

    The query at position p sees [p - window + 1, p].
    """
    if window is None:
        return 0
    return max(0, num_computed_tokens - window + 1) // page_size


def window_pages(window: int, max_chunk: int, page_size: int) -> int:
    """Pages that hold the window before a chunk and the chunk, wherever page borders fall."""
    return -(-(window + max_chunk) // page_size) + 1


def max_tokens_of_one_sequence(
    groups: Sequence[KVGroup], num_pages: Sequence[int], page_size: int, max_chunk: int
) -> int:
    """Longest sequence that fits an otherwise empty cache, computed `max_chunk` tokens a step."""
    longest = UNBOUNDED
    for group, pages in zip(groups, num_pages):
        if group.window is not None and pages >= window_pages(group.window, max_chunk, page_size):
            continue  # pages leave the window as fast as new ones are needed
        longest = min(longest, pages * page_size)
    return longest
