"""Sequences that begin in the same pages: who they are, and what a graph is fed for them."""

import dataclasses

import numpy as np
import pytest
import torch

from quire.core.kv_spec import KVGroup, LayerKV
from quire.core.plan import PageDelta, RowStart, StepPlan
from quire.core.sampling_params import SamplingParams
from quire.kernels.attention.reference import attention as reference_attention
from quire.kernels.select import reference_ops, triton_ops
from quire.platform.detect import detect
from quire.runner import prefixes
from quire.runner.graphs import Lines
from quire.runner.prefixes import Prefixes
from quire.runner.rows import DeviceRows
from quire.sampling.sampler import Sampler

CAPS = detect("auto")  # kernels run on a GPU, or in the interpreter
PAGE = 16
SAMPLER = Sampler(131, 16, torch.device("cpu"), reference_ops("test"))
# By row: its pages. Rows 5, 1 and 6 share four, 0 and 3 two and 2 nothing.
PAGES = {
    5: [9, 8, 7, 6, 5],
    2: [1],
    1: [9, 8, 7, 6, 4, 3],
    0: [20, 21, 22],
    6: [9, 8, 7, 6, 2],
    3: [20, 21, 23],
}
LENGTHS = {5: 70, 2: 9, 1: 90, 0: 35, 6: 65, 3: 40}
ROWS = list(PAGES)


def start_plan() -> StepPlan:
    starts = [RowStart(r, list(range(n)), n, SamplingParams(), 0, ()) for r, n in LENGTHS.items()]
    pages = [PageDelta(0, row, 0, ids) for row, ids in PAGES.items()]
    lengths = [LENGTHS[row] - 1 for row in ROWS]
    return StepPlan(0, starts, pages, ROWS, lengths, [0] * len(ROWS), [True] * len(ROWS))


def decode_plan() -> StepPlan:
    computed = [LENGTHS[row] - 1 for row in ROWS]
    return StepPlan(1, [], [], ROWS, [1] * len(ROWS), computed, [True] * len(ROWS))


def found(known: Prefixes, rows: list[int], computed: list[int]) -> list[tuple[set[int], int]]:
    groups = known.groups(rows, computed)
    return [({rows[index] for index in group.sequences}, group.num_keys) for group in groups]


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Prefixes:
    monkeypatch.setattr(prefixes, "WORTH", 32)
    known = Prefixes(8, 10, PAGE)
    known.update(start_plan())
    return known


def test_sequences_that_begin_in_the_same_pages_are_found(known: Prefixes) -> None:
    computed = decode_plan().num_computed
    assert found(known, ROWS, computed) == [({5, 1, 6}, 64), ({0, 3}, 32)]
    assert found(known, [2, 3, 1], [8, 39, 89]) == []
    assert found(known, [5, 6], [69, 63]) == [({5, 6}, 48)]  # what is computed is all there is


def test_a_row_has_another_sequence_once_one_starts(known: Prefixes) -> None:
    assert found(known, [0, 3], [34, 39]) == [({0, 3}, 32)]
    start = RowStart(3, [1], 1, SamplingParams(), 0, ())
    known.update(StepPlan(2, [start], [PageDelta(0, 3, 0, [11, 12])], [3], [1], [0], [True]))
    assert found(known, [0, 3], [34, 20]) == []


def test_a_little_is_not_worth_it(known: Prefixes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefixes, "WORTH", 33)
    assert found(known, ROWS, decode_plan().num_computed) == [({5, 1, 6}, 64)]


def test_a_graph_attends_once_to_what_is_shared(known: Prefixes) -> None:
    group = KVGroup(None, (LayerKV(0, 2, 16),))
    by_parts = triton_ops(8, "test").by_parts
    ops = dataclasses.replace(reference_ops("test"), by_parts=by_parts)
    rows = DeviceRows(8, 160, PAGE, [group], ops, CAPS)
    assert rows.may_share
    rows.apply(start_plan())
    lines = Lines(rows, 8, CAPS, shares=True)
    eager = rows.apply(decode_plan()).inputs.groups[0]
    torch.manual_seed(0)
    q = torch.randn(8, 4, 16, device=CAPS.torch_device)
    k_pages, v_pages = torch.randn(2, 24, 2, PAGE, 16, device=CAPS.torch_device)
    expected = reference_attention(q[:6], k_pages, v_pages, eager, 0.3, None, None)
    groups = known.groups(ROWS, decode_plan().num_computed)
    for shared in (groups, groups[1:], ()):  # a graph's next step may share less
        lines.upload(decode_plan(), SAMPLER.host_numbers(decode_plan().rows), CAPS, shared)
        batch = lines.inputs.groups[0]
        assert batch.shared is not None
        tiles = batch.shared.tiles[:, 1]
        assert tiles[tiles >= 0].tolist() == [group.num_keys for group in shared]
        assert batch.parts is not None
        first_keys = dict.fromkeys(ROWS, 0)
        for of in shared:
            first_keys |= {ROWS[index]: of.num_keys for index in of.sequences}
        firsts = batch.parts[:, 3]
        for row, first in first_keys.items():
            assert firsts[batch.parts[:, 1] == row].min() == first
        actual = triton_ops(8, "test").attention(q, k_pages, v_pages, batch, 0.3, None, None)
        torch.testing.assert_close(actual[:6], expected)
        assert batch.arrivals is not None
        assert not batch.arrivals.any()


def test_groups_beyond_a_graphs_tiles_are_left_out() -> None:
    group = KVGroup(None, (LayerKV(0, 2, 16),))
    by_parts = triton_ops(8, "test").by_parts
    ops = dataclasses.replace(reference_ops("test"), by_parts=by_parts)
    rows = DeviceRows(16, 160, PAGE, [group], ops, CAPS)
    plan = StepPlan(1, [], [], list(range(16)), [1] * 16, [40] * 16, [True] * 16)
    lines = Lines(rows, 16, CAPS, shares=True)
    pairs = [prefixes.PrefixGroup(np.array([i, i + 8]), 16) for i in range(8)]
    lines.upload(plan, SAMPLER.host_numbers(plan.rows), CAPS, pairs)
    batch = lines.inputs.groups[0]
    assert batch.shared is not None
    assert (batch.shared.tiles[:, 1] == 16).all()
    assert len(batch.shared.tiles) == 5
