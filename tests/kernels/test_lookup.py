"""Rows of a table by integer."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from quire.kernels.table import Ops
from quire.quant.layouts.layout import Dense
from quire.quant.layouts.per_channel import Fp8Channel


@pytest.mark.parametrize("width", [1, 80, 1024, 1500])
def test_rows_of_a_table_that_is_filled_later(
    ops: Ops, width: int, dtype: torch.dtype, randn: Callable[..., Tensor], poison: None
) -> None:
    values = randn(50, width).to(dtype)
    table = Dense(torch.empty_like(values))
    rows = ops.lookup(table)
    table.fill(values)
    for ids in ([], [7], [49, 0, 7, 7], list(range(50))):
        index = torch.tensor(ids, dtype=torch.int64, device=values.device)
        assert torch.equal(rows(index), values[index])


def test_other_layouts(ops: Ops, randn: Callable[..., Tensor]) -> None:
    values = randn(20, 32)
    table = Fp8Channel.empty(20, 32, torch.float32, values.device)
    table.fill(values)
    index = torch.tensor([3, 0, 19], device=values.device)
    assert torch.equal(ops.lookup(table)(index), table.dequantize()[index])
