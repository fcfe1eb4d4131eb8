"""Rows of a table in plain torch."""

from collections.abc import Callable

from torch import Tensor

from quire.quant.layouts.layout import Layout


def lookup(table: Layout) -> Callable[[Tensor], Tensor]:
    """The function ids [T] int64 -> [T, width] for a table [rows, width] in its layout, which may
    be filled later."""
    return table.rows
