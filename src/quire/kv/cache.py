"""The KV cache as integers: one page pool per KV group, and a page table per sequence.

It answers (`match_prefix`, `can_admit`) and does (`open_table`, `allocate`, `commit`, `free`);
which sequence gets pages is the scheduler's business, and the tensors are the runner's. Runs in
the engine's thread.

All groups share one column numbering: column c of a page table holds positions
[c * P, (c + 1) * P). Who owns which columns of a table, in group g:

    [0, first[g])                      nobody: the window has passed them, any id may stand there
    [first[g], num_committed)          this table and possibly others; full, read-only, findable
    [num_committed, len(pages[g]))     this table alone; being filled, or not yet known to be right
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from quire.core.kv_spec import KVGroup
from quire.kv.capacity import first_live_column, max_tokens_of_one_sequence
from quire.kv.pages import PagePool


class PageTable:
    """A sequence's page ids, one list of columns per KV group. Changed by `KVCache` alone."""

    __slots__ = ("first", "num_committed", "pages")

    def __init__(self, pages: list[list[int]], first: list[int], num_committed: int) -> None:
        self.pages = pages
        self.first = first  # per group: columns before it are stale
        self.num_committed = num_committed  # columns whose content is in the prefix index

    @property
    def num_columns(self) -> int:
        """Columns assigned so far, the same in every group."""
        return len(self.pages[0])

    def owned(self, group: int) -> list[int]:
        """The group's pages this table holds a reference to, first column first."""
        return self.pages[group][self.first[group] :]


@dataclass(frozen=True, slots=True)
class PrefixHit:
    """Leading tokens whose keys and values exist already.

    `pages[g]` has a column for each full page of them; the ones before `first[g]` are outside
    the window and stand for nothing. Valid until pages are next allocated.
    """

    num_tokens: int
    pages: tuple[tuple[int, ...], ...]
    first: tuple[int, ...]


class KVCache:
    """Pages of all KV groups.

    Args:
        groups: in the recipe's order; a group's index is the `group` of page deltas.
        num_pages: pages in each group's pool.
        page_size: P, tokens per page.
        enable_prefix_caching: False finds nothing by content; forks still share pages.
    """

    def __init__(
        self,
        groups: Sequence[KVGroup],
        num_pages: Sequence[int],
        page_size: int,
        enable_prefix_caching: bool = True,
    ) -> None:
        assert len(groups) == len(num_pages) > 0, "one number of pages per KV group"
        self.groups = tuple(groups)
        self.page_size = page_size
        self.enable_prefix_caching = enable_prefix_caching
        self.pools = tuple(PagePool(n) for n in num_pages)
        self.windows = tuple(group.window for group in groups)
        self._no_hit = PrefixHit(0, tuple(() for _ in groups), tuple(0 for _ in groups))

    # --- questions ---

    @property
    def num_free(self) -> tuple[int, ...]:
        return tuple(pool.num_free for pool in self.pools)

    @property
    def usage(self) -> float:
        """Fraction of pages held by sequences, the fullest group's."""
        return max(pool.usage for pool in self.pools)

    def max_tokens_of_one_sequence(self, max_chunk: int) -> int:
        """Longest sequence an empty cache holds, computed at most `max_chunk` tokens a step."""
        num_pages = [pool.num_pages for pool in self.pools]
        return max_tokens_of_one_sequence(self.groups, num_pages, self.page_size, max_chunk)

    def match_prefix(self, page_hashes: Sequence[bytes], num_tokens: int) -> PrefixHit:
        """The longest findable prefix of a sequence of `num_tokens` known tokens.

        Whole pages, and never all of the sequence: a token must remain to be computed, or
        there would be no logits. Full-attention groups have every page of the hit; window
        groups have those that the first token after the hit can see. Changes nothing.
        """
        if not self.enable_prefix_caching:
            return self._no_hit
        length = min(len(page_hashes), (num_tokens - 1) // self.page_size)
        for pool, window in zip(self.pools, self.windows):
            if window is None:
                length = _num_leading(pool, page_hashes, length)
        length = self._fit_windows(page_hashes, length)
        return self._hit(length, page_hashes) if length else self._no_hit

    def fork(self, parent: PageTable, num_tokens: int) -> PrefixHit:
        """What a sequence that begins with the parent's first `num_tokens` can share with it.

        The parent has computed them. Its partial last page is not shared: the child computes
        that page's tokens again, at least one. No hit if a window has moved on too far.
        """
        length = (num_tokens - 1) // self.page_size
        pages, starts = [], []
        for group, window in enumerate(self.windows):
            start = first_live_column(length * self.page_size, window, self.page_size)
            if parent.first[group] > start:
                return self._no_hit
            pages.append((0,) * start + tuple(parent.pages[group][start:length]))
            starts.append(start)
        return PrefixHit(length * self.page_size, tuple(pages), tuple(starts))

    def can_admit(self, hit: PrefixHit, chunk_end: int, num_tokens: int, headroom: int) -> bool:
        """Whether a new sequence would find pages for its first chunk, [hit, chunk_end), and
        in full-attention groups for all of its `num_tokens`, leaving `headroom` pages free."""
        for pool, window, pages, first in zip(self.pools, self.windows, hit.pages, hit.first):
            end = num_tokens if window is None else chunk_end
            wanted = -(-end // self.page_size) - len(pages)
            wanted += pool.count_free(pages[first:])
            if wanted + headroom > pool.num_free:
                return False
        return True

    # --- verbs ---

    def open_table(self, hit: PrefixHit) -> PageTable:
        """A new sequence's page table, sharing the pages of its prefix hit."""
        for pool, pages, first in zip(self.pools, hit.pages, hit.first):
            pool.share(pages[first:])
        pages_of_groups = [list(pages) for pages in hit.pages]
        return PageTable(pages_of_groups, list(hit.first), hit.num_tokens // self.page_size)

    def allocate(self, table: PageTable, num_tokens: int) -> list[list[int]] | None:
        """Make room for positions [0, num_tokens): the new columns' page ids, by group.

        None, and nothing has changed, if any group has too few free pages.
        """
        count = -(-num_tokens // self.page_size) - table.num_columns
        if count <= 0:
            return [[] for _ in self.pools]
        for pool in self.pools:
            if pool.num_free < count:
                return None
        added = []
        for pool, pages in zip(self.pools, table.pages):
            page_ids = pool.allocate(count)
            pages.extend(page_ids)
            added.append(page_ids)
        return added

    def commit(self, table: PageTable, page_hashes: Sequence[bytes], num_pages: int) -> None:
        """Make columns [num_committed, num_pages) findable: they hold exactly the known tokens
        that `page_hashes` name, computed by this or an earlier plan."""
        for column in range(table.num_committed, num_pages):
            for pool, pages, first in zip(self.pools, table.pages, table.first):
                if column >= first:
                    pool.register(pages[column], page_hashes[column])
        table.num_committed = max(table.num_committed, num_pages)

    def release_outside_window(self, table: PageTable, num_computed_tokens: int) -> None:
        """Free pages that no query from `num_computed_tokens` on can see. Columns keep their
        place and their stale id."""
        for group, window in enumerate(self.windows):
            if window is None:
                continue
            live = first_live_column(num_computed_tokens, window, self.page_size)
            first = table.first[group]
            if live > first:
                self.pools[group].free(reversed(table.pages[group][first:live]))
                table.first[group] = live

    def free(self, table: PageTable) -> None:
        """Give up all pages, the tail to be reused before the head; the table is dead.

        What was committed stays findable until its pages are reused.
        """
        for group, pool in enumerate(self.pools):
            pool.free(reversed(table.owned(group)))
            table.pages[group] = []
            table.first[group] = 0

    def forget(self, page_hashes: Sequence[bytes]) -> None:
        """Make pages unfindable, whoever holds them, because their content is unusable."""
        for pool in self.pools:
            found = [pool.lookup(page_hash) for page_hash in page_hashes]
            pool.forget(page_id for page_id in found if page_id is not None)

    def reset_prefix_cache(self) -> bool:
        """Make nothing findable any more; False, and nothing done, while a page is held."""
        if any(pool.num_free < pool.num_pages for pool in self.pools):
            return False
        for pool in self.pools:
            pool.forget(range(pool.num_pages))
        return True

    def check_integrity(self, tables: Iterable[PageTable]) -> None:
        """Assert that the given tables, all there are, account for every page."""
        tables = list(tables)
        for group, pool in enumerate(self.pools):
            pool.check_integrity(page_id for table in tables for page_id in table.owned(group))
        for table in tables:
            assert len({len(pages) for pages in table.pages}) == 1, "groups differ in columns"
            assert table.num_committed <= table.num_columns, "a missing page is committed"

    # --- parts of match_prefix ---

    def _fit_windows(self, page_hashes: Sequence[bytes], length: int) -> int:
        """The longest hit of at most `length` pages whose windows are all there.

        Works from the right. `seen[g]` is the column from which group g is known to have every
        page up to the current length, so no page is looked up twice and the search is linear.
        """
        seen = [length] * len(self.pools)
        group = 0
        while group < len(self.pools):
            window, pool = self.windows[group], self.pools[group]
            start = first_live_column(length * self.page_size, window, self.page_size)
            column = min(seen[group], length)
            while window is not None and column > start:
                if pool.lookup(page_hashes[column - 1]) is None:
                    break
                column -= 1
            seen[group] = column
            if window is None or column <= start:
                group += 1
            else:  # column - 1 is missing: the hit must end before it, in every group
                length = column - 1
                group = 0
        return length

    def _hit(self, length: int, page_hashes: Sequence[bytes]) -> PrefixHit:
        pages, starts = [], []
        for pool, window in zip(self.pools, self.windows):
            start = first_live_column(length * self.page_size, window, self.page_size)
            found = [pool.lookup(page_hash) for page_hash in page_hashes[start:length]]
            pages.append((0,) * start + tuple(page_id for page_id in found if page_id is not None))
            assert len(pages[-1]) == length, "a page of the hit is missing"
            starts.append(start)
        return PrefixHit(length * self.page_size, tuple(pages), tuple(starts))


def _num_leading(pool: PagePool, page_hashes: Sequence[bytes], limit: int) -> int:
    """How many of the first `limit` pages are there without a gap."""
    for column in range(limit):
        if pool.lookup(page_hashes[column]) is None:
            return column
    return limit
