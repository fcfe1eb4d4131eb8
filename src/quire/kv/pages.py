"""The page pool of one KV group: which pages are free, shared, or findable by content.

Integers only: the tensors a page id points into belong to the runner. The pool never chooses
(who gets pages, who loses them); it answers and does. Runs in the engine's thread.

A page is in one of two states, and may be in the index in either:

    ref_count > 0    held by that many page tables
    ref_count == 0   on the free list; if it has a hash it can still be found and resurrected
                     until `allocate` takes it for something else
"""

from collections import OrderedDict
from collections.abc import Iterable


class PagePool:
    """`num_pages` pages, ids [0, num_pages). Every operation is O(1) per page."""

    __slots__ = ("_free", "_hashes", "_index", "_refs", "num_pages")

    def __init__(self, num_pages: int) -> None:
        assert num_pages > 0, f"a pool needs a page, got {num_pages}"
        self.num_pages = num_pages
        self._refs = [0] * num_pages
        self._hashes: list[bytes | None] = [None] * num_pages
        self._index: dict[bytes, int] = {}  # page_hash -> page_id
        # In the order pages will be reused: the first is the least recently used.
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(num_pages))

    @property
    def num_free(self) -> int:
        """Pages that `allocate` can hand out, the findable ones included."""
        return len(self._free)

    @property
    def usage(self) -> float:
        """Fraction of the pages held by sequences."""
        return 1.0 - len(self._free) / self.num_pages

    def ref_count(self, page_id: int) -> int:
        return self._refs[page_id]

    def is_findable(self, page_id: int) -> bool:
        return self._hashes[page_id] is not None

    def count_free(self, page_ids: Iterable[int]) -> int:
        """How many of the pages are on the free list, and would leave it if shared."""
        refs = self._refs
        return sum(refs[page_id] == 0 for page_id in page_ids)

    def allocate(self, count: int) -> list[int]:
        """Take the `count` least recently used free pages; what they held is forgotten.

        The caller has checked `num_free`.
        """
        assert count <= len(self._free), f"{count} pages wanted, {len(self._free)} free"
        page_ids = []
        for _ in range(count):
            page_id = self._free.popitem(last=False)[0]
            page_hash = self._hashes[page_id]
            if page_hash is not None:
                del self._index[page_hash]
                self._hashes[page_id] = None
            self._refs[page_id] = 1
            page_ids.append(page_id)
        return page_ids

    def share(self, page_ids: Iterable[int]) -> None:
        """One more holder for each page; a free page leaves the free list with its content."""
        for page_id in page_ids:
            if self._refs[page_id] == 0:
                del self._free[page_id]
            self._refs[page_id] += 1

    def free(self, page_ids: Iterable[int]) -> None:
        """One holder fewer for each page; of those nobody holds, the first given is reused first.

        Pages without a hash hold nothing anyone could find, so they are reused before all others.
        """
        for page_id in page_ids:
            refs = self._refs[page_id] - 1
            assert refs >= 0, f"page {page_id} freed twice"
            self._refs[page_id] = refs
            if refs == 0:
                self._free[page_id] = None
                if self._hashes[page_id] is None:
                    self._free.move_to_end(page_id, last=False)

    def register(self, page_id: int, page_hash: bytes) -> None:
        """Make a held page findable. If another page has the same content, that one stays."""
        assert self._refs[page_id] > 0, f"page {page_id} is free and cannot be registered"
        if self._hashes[page_id] is None and page_hash not in self._index:
            self._index[page_hash] = page_id
            self._hashes[page_id] = page_hash

    def forget(self, page_ids: Iterable[int]) -> None:
        """Make pages unfindable: their content is unusable, or no longer wanted."""
        for page_id in page_ids:
            page_hash = self._hashes[page_id]
            if page_hash is not None:
                del self._index[page_hash]
                self._hashes[page_id] = None

    def lookup(self, page_hash: bytes) -> int | None:
        """The page with this content, held or free. Valid until the next `allocate`."""
        return self._index.get(page_hash)

    def check_integrity(self, held: Iterable[int]) -> None:
        """Assert every invariant. `held` lists the pages of all tables, once per holder."""
        refs = [0] * self.num_pages
        for page_id in held:
            refs[page_id] += 1
        assert refs == self._refs, _difference(refs, self._refs)
        for page_id, count in enumerate(self._refs):
            assert (count == 0) == (page_id in self._free), f"page {page_id}: free list is wrong"
            page_hash = self._hashes[page_id]
            if page_hash is not None:
                assert self._index.get(page_hash) == page_id, f"page {page_id}: index is wrong"
        num_hashed = sum(page_hash is not None for page_hash in self._hashes)
        assert num_hashed == len(self._index), "the index names pages that do not know it"


def _difference(expected: list[int], actual: list[int]) -> str:
    wrong = [(i, e, a) for i, (e, a) in enumerate(zip(expected, actual)) if e != a]
    return f"ref counts differ, (page, holders, ref_count): {wrong[:8]}"
