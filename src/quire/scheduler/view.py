"""The scheduler's state as people are shown it: which request holds which page, and who waits.

Made on demand, between two steps, so its cost is bounded whatever the size of the cache: of a
large pool only every so many-th page is looked at, of many sequences only the first.
"""

from collections.abc import Iterable
from itertools import islice

from quire.core.messages import EngineStats, EngineView, PoolView, SequenceView
from quire.kv.cache import KVCache
from quire.scheduler.sequence import Sequence

MAX_CELLS = 4096
MAX_SHOWN = 64  # running sequences; as many waiting ones


def engine_view(
    cache: KVCache, running: Iterable[Sequence], waiting: Iterable[Sequence], stats: EngineStats
) -> EngineView:
    """What `core.messages.EngineView` says."""
    shown = list(islice(running, MAX_SHOWN))
    return EngineView(
        stats,
        [_pool_view(cache, group, shown) for group in range(len(cache.pools))],
        [_sequence_view(seq) for seq in shown],
        [_sequence_view(seq) for seq in islice(waiting, MAX_SHOWN)],
    )


def _pool_view(cache: KVCache, group: int, shown: list[Sequence]) -> PoolView:
    pool = cache.pools[group]
    stride = -(-pool.num_pages // MAX_CELLS)
    holder: dict[int, int] = {}
    for number, seq in enumerate(shown):
        if seq.table is not None:
            for page_id in seq.table.owned(group):
                if page_id % stride == 0:
                    holder.setdefault(page_id, number)
    cells = []
    for page_id in range(0, pool.num_pages, stride):
        holders = pool.ref_count(page_id)
        if holders:
            cells.append(2 + 2 * holder.get(page_id, len(shown)) + (holders > 1))
        else:
            cells.append(int(pool.is_findable(page_id)))
    return PoolView(pool.num_pages, stride, cells)


def _sequence_view(seq: Sequence) -> SequenceView:
    return SequenceView(
        seq.request_id,
        seq.index,
        seq.num_prompt_tokens,
        seq.num_output_tokens,
        seq.num_cached_tokens,
        0 if seq.table is None else seq.table.num_columns,
    )
