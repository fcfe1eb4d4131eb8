"""Rows of an embedding: of a dense one by Triton."""

from collections.abc import Callable
from functools import partial

from torch import Tensor

from quire.kernels.lookup import reference
from quire.kernels.lookup.triton_rows import rows
from quire.quant.layouts.layout import Dense, Layout


def lookup(table: Layout) -> Callable[[Tensor], Tensor]:
    """As `reference.lookup`."""
    if not isinstance(table, Dense):
        return reference.lookup(table)
    return partial(rows, table.weight)
