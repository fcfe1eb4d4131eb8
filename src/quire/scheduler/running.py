"""The sequences that run: each holds a row, and pages for what it has computed.

Moves rows and pages and keeps the account; who starts, and who gives way, is the scheduler's.
"""

from bisect import insort
from operator import attrgetter

from quire.core.plan import PageDelta, RowStart, StepPlan
from quire.kv.cache import KVCache, PrefixHit
from quire.scheduler.sequence import Sequence, SequenceStatus

_KEY = attrgetter("key")


class Running:
    """Rows and pages of the running sequences, which `sequences` lists in order of key."""

    def __init__(self, cache: KVCache, num_rows: int) -> None:
        self.sequences: list[Sequence] = []
        self.free_rows = list(range(num_rows - 1, -1, -1))
        self._released: list[int] = []  # rows given up since the last plan
        self._cache = cache
        self._page_size = cache.page_size
        self._caching = cache.enable_prefix_caching
        self._num_rows = num_rows

    def start(self, seq: Sequence, hit: PrefixHit, count: int, plan: StepPlan) -> None:
        """Give a sequence a row, what its prefix hit shares, and pages for `count` tokens more.
        There is room: `KVCache.can_admit` said so."""
        table = self._cache.open_table(hit)
        added = self._cache.allocate(table, hit.num_tokens + count)
        assert added is not None, "can_admit promised these pages"
        seq.table = table
        seq.row = self.free_rows.pop()
        seq.status = SequenceStatus.RUNNING
        seq.num_computed_tokens = hit.num_tokens
        seq.parent = None
        insort(self.sequences, seq, key=_KEY)
        plan.starts.append(_row_start(seq))
        for group, page_ids in enumerate(table.pages):
            plan.pages.append(PageDelta(group, seq.row, 0, tuple(page_ids)))

    def grow(self, seq: Sequence, end: int, plan: StepPlan) -> bool:
        """Pages for positions [0, end); False, and no page taken, if there are too few."""
        table = seq.table
        assert table is not None
        column = table.num_columns
        if end <= column * self._page_size:
            return True
        self._cache.release_outside_window(table, seq.num_computed_tokens)
        added = self._cache.allocate(table, end)
        if added is None:
            return False
        for group, page_ids in enumerate(added):
            plan.pages.append(PageDelta(group, seq.row, column, page_ids))
        return True

    def advance(self, seq: Sequence, count: int) -> None:
        """Count planned tokens as computed, and see how far decoding can go unwatched."""
        seq.num_computed_tokens += count
        if self._caching:
            self._commit(seq)
        if seq.num_computed_tokens >= len(seq.token_ids) and not seq.sync:
            assert seq.table is not None
            # To compute position p, a page must be there and token p + 1 must be allowed to exist.
            seq.decode_end = min(seq.table.num_columns * self._page_size, seq.limit - 1)
        else:
            seq.decode_end = 0

    def settle(self, seq: Sequence) -> None:
        """After new tokens have come: commit, and see how many more can come unwatched."""
        quiet_end = seq.limit - 1
        if self._caching:
            self._commit(seq)
            assert seq.table is not None
            quiet_end = min(quiet_end, (seq.table.num_committed + 1) * self._page_size)
        seq.quiet_end = quiet_end if seq.grammar is None and seq.repetition is None else 0
        if seq.num_computed_tokens + 1 < len(seq.token_ids):
            seq.decode_end = 0  # several tokens came at once; they are computed like a prompt

    def vacate(self, seq: Sequence) -> None:
        """Take row and pages back. Both are free at once: later plans run later."""
        assert seq.table is not None
        self.sequences.remove(seq)
        self._cache.free(seq.table)
        self.free_rows.append(seq.row)
        self._released.append(seq.row)
        seq.table = None
        seq.row = -1
        seq.decode_end = seq.quiet_end = 0

    def take_released(self) -> list[int]:
        """The rows given up since this was last asked."""
        released, self._released = self._released, []
        return released

    def check_integrity(self) -> None:
        """Assert that rows and pages are all accounted for."""
        sequences = self.sequences
        assert sequences == sorted(sequences, key=_KEY), "running sequences are out of order"
        rows = sorted([seq.row for seq in sequences] + self.free_rows)
        assert rows == list(range(self._num_rows)), f"rows are lost or doubled: {rows}"
        tables = []
        for seq in sequences:
            assert seq.status is SequenceStatus.RUNNING
            assert seq.table is not None
            assert seq.num_computed_tokens <= seq.table.num_columns * self._page_size
            assert seq.total_tokens <= seq.limit, "planned beyond its last token"
            tables.append(seq.table)
        self._cache.check_integrity(tables)

    def _commit(self, seq: Sequence) -> None:
        """Make full pages findable, as far as their tokens are known to the host and computed
        by this or an earlier plan. A pending token's page has no hash yet."""
        table = seq.table
        assert table is not None
        num_tokens = min(len(seq.token_ids), seq.num_computed_tokens)
        num_pages = num_tokens // self._page_size
        if num_pages > table.num_committed:
            self._cache.commit(table, seq.hash_pages(num_tokens, self._page_size), num_pages)


def best_prefix_hit(cache: KVCache, seq: Sequence) -> PrefixHit:
    """What a waiting sequence need not compute: the longer of what the cache finds and, for
    `n > 1`, what a running sibling that has computed the prompt can share."""
    known = len(seq.token_ids)
    # Prompt log-probabilities need the logits at every position of the prompt, some poolings
    # the hidden states.
    every_token = seq.prompt_logprobs is not None or (
        seq.pooling is not None and seq.pooling.needs_every_token
    )
    if every_token or not cache.enable_prefix_caching:
        hit = cache.match_prefix((), known)
    else:
        hit = cache.match_prefix(seq.hash_pages(known - 1, cache.page_size), known)
    parent, num_prompt = seq.parent, seq.num_prompt_tokens
    if parent is None or parent.table is None or parent.num_computed_tokens < num_prompt:
        return hit
    fork = cache.fork(parent.table, num_prompt)
    return fork if fork.num_tokens > hit.num_tokens else hit


def _row_start(seq: Sequence) -> RowStart:
    """What the runner must know. Copies the tokens: plans outlive this moment."""
    message = seq.message
    return RowStart(
        row=seq.row,
        token_ids=seq.token_ids.copy(),
        num_prompt_tokens=seq.num_prompt_tokens,
        params=message.params,
        seed=seq.seed,
        stop_token_ids=tuple(message.stop_token_ids),
        bad_words_ids=tuple(tuple(word) for word in message.bad_words_ids),
        pooling=message.pooling,
    )
