"""A decode step's inputs from the device rows, and its tokens back to them."""

import pytest
import torch

from quire.kernels.table import Ops

PAGE = 4


def test_stage_and_append(ops: Ops, device: torch.device) -> None:
    """Rows 2, 0 and 5 stand at positions 6, 3 and 4, the last on a new page; one line pads."""
    tokens = torch.arange(6 * 12, dtype=torch.int32, device=device).view(6, 12)
    table = torch.arange(6 * 3, dtype=torch.int32, device=device).view(6, 3) + 20
    rows = torch.tensor([2, 0, 5, 0], dtype=torch.int32, device=device)
    seq_lens = torch.tensor([7, 4, 5, 0], dtype=torch.int32, device=device)
    new_pages = torch.tensor([-1, -1, 99, -1], dtype=torch.int32, device=device)
    token_ids, positions, slots = torch.full((3, 4), 77, dtype=torch.int64, device=device)
    before = table.clone()
    ops.stage(tokens, PAGE, table, rows, seq_lens, new_pages, token_ids, positions, slots)
    assert token_ids.tolist() == [2 * 12 + 6, 3, 5 * 12 + 4, 0]
    assert positions.tolist() == [6, 3, 4, 0]
    assert slots.tolist() == [27 * PAGE + 2, 20 * PAGE + 3, 99 * PAGE, -1]
    before[5, 1] = 99
    assert torch.equal(table, before)

    expected = tokens.clone()
    expected[2, 7], expected[0, 4], expected[5, 5] = 501, 0, 503
    sampled = torch.tensor([501, -1, 503, 504], device=device)
    ops.append(tokens, rows, seq_lens, sampled)
    assert torch.equal(tokens, expected)


@pytest.mark.parametrize("count", [1, 127, 128, 129, 300])
def test_any_number_of_lines(ops: Ops, reference: Ops, device: torch.device, count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    tokens = torch.randint(0, 999, (count, 20), generator=generator, dtype=torch.int32)
    table = torch.randint(0, 999, (count, 5), generator=generator, dtype=torch.int32)
    rows = torch.randperm(count, generator=generator).int()
    seq_lens = torch.randint(0, 20, (count,), generator=generator, dtype=torch.int32)
    new_pages = torch.randint(-5, 5, (count,), generator=generator, dtype=torch.int32)
    sampled = torch.randint(-1, 999, (count,), generator=generator)
    results = []
    for run in (ops, reference):
        own = [x.clone().to(device) for x in (tokens, table, rows, seq_lens, new_pages, sampled)]
        made = torch.zeros(3, count, dtype=torch.int64, device=device)
        run.stage(own[0], PAGE, *own[1:5], *made)
        run.append(own[0], own[2], own[3], own[5])
        results.append([own[0], own[1], made])
    for actual, expected in zip(*results, strict=True):
        assert torch.equal(actual, expected)
