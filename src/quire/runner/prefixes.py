"""Which running sequences begin in the same pages, as the prefix cache has it. On the host.

Sequences that share a prompt's beginning share its pages, which decode attention then reads once
for all of them. Only those with the very first page in common are compared, and only up to where
the first of them differs.
"""

from collections.abc import Sequence

import numpy as np

from quire.core.plan import StepPlan
from quire.kernels.attention.shared import PrefixGroup

# Keys that need not be read again for another sequence, from which on it should pay: 64 MB a layer
# with 8 KV heads of 128, 15 us of an H200's bandwidth; what is done instead is estimated at 10.
WORTH = 16384


class Prefixes:
    """The first pages of every row.

    Args:
        num_rows, width: of the page table; page_size: tokens of a page.
    """

    def __init__(self, num_rows: int, width: int, page_size: int) -> None:
        self._page_size = page_size
        self._pages = np.zeros((num_rows, width), dtype=np.int32)
        self._rows: list[int] | None = None  # what `_groups` is for
        self._groups: tuple[PrefixGroup, ...] = ()

    def update(self, plan: StepPlan) -> None:
        for delta in plan.pages:
            ids = delta.page_ids
            self._pages[delta.row, delta.column : delta.column + len(ids)] = ids
        if plan.starts:
            self._rows = None

    def groups(self, rows: list[int], num_computed: Sequence[int]) -> tuple[PrefixGroup, ...]:
        """The groups for which it pays, the largest first, of sequences with so many keys."""
        if rows != self._rows:
            self._rows = list(rows)
            self._groups = self._find(np.array(rows), np.array(num_computed))
        return self._groups

    def _find(self, rows: np.ndarray, num_computed: np.ndarray) -> tuple[PrefixGroup, ...]:
        first_pages = self._pages[rows, 0]
        order = np.argsort(first_pages, kind="stable")
        ends = np.flatnonzero(np.diff(first_pages[order])) + 1
        found = []
        for members in np.split(order, ends):
            if len(members) > 1:
                most = int(num_computed[members].min()) // self._page_size
                pages = self._pages[rows[members], :most]
                same = (pages == pages[0]).all(axis=0)
                num_pages = most if same.all() else int(same.argmin())
                num_keys = num_pages * self._page_size
                if (len(members) - 1) * num_keys >= WORTH:
                    found.append(PrefixGroup(members, num_keys))
        return tuple(sorted(found, key=lambda group: -len(group.sequences) * group.num_keys))
