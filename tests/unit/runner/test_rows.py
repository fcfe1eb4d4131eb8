"""Device rows: a plan becomes inputs, and sampled tokens feed the next step on the device."""

import torch

from quire.core.kv_spec import KVGroup, LayerKV
from quire.core.plan import PageDelta, RowStart, StepPlan
from quire.core.sampling_params import SamplingParams
from quire.kernels.select import torch_ops
from quire.platform.detect import detect
from quire.runner.rows import DeviceRows

PAGE = 4


def start(row, token_ids):
    return RowStart(row, token_ids, len(token_ids), SamplingParams(), 0, ())


def first_plan():
    """Row 2 computes a prompt of 6, row 0 the first 3 tokens of a prompt of 5."""
    return StepPlan(
        step=0,
        starts=[start(2, [10, 11, 12, 13, 14, 15]), start(0, [20, 21, 22, 23, 24])],
        pages=[
            PageDelta(0, 2, 0, [7, 3]),
            PageDelta(1, 2, 0, [1, 5]),
            PageDelta(0, 0, 0, [6]),
            PageDelta(1, 0, 0, [2]),
        ],
        rows=[2, 0],
        query_lens=[6, 3],
        num_computed=[0, 0],
        samples=[True, False],
    )


def append(rows, step, sampled):
    sampled = torch.tensor(sampled, dtype=torch.int64)
    rows.append(step.sample_rows_device, step.sample_positions, sampled)


def make_rows():
    groups = [KVGroup(None, (LayerKV(0, 1, 8),)), KVGroup(9, (LayerKV(1, 1, 8),))]
    return DeviceRows(3, 16, PAGE, groups, torch_ops("test"), detect("cpu"))


def test_a_plan_becomes_inputs():
    step = make_rows().apply(first_plan())
    inputs = step.inputs
    assert inputs.token_ids.tolist() == [10, 11, 12, 13, 14, 15, 20, 21, 22]
    assert inputs.positions.tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2]
    full, window = inputs.groups
    assert full.query_starts.tolist() == [0, 6, 9]
    assert full.seq_lens.tolist() == [6, 3]
    assert full.rows.tolist() == [2, 0]
    assert full.slots.tolist() == [28, 29, 30, 31, 12, 13, 24, 25, 26]
    assert window.slots.tolist() == [4, 5, 6, 7, 20, 21, 8, 9, 10]
    assert (full.max_query_len, full.max_seq_len) == (6, 6)
    assert step.sample_rows.tolist() == [2]
    assert step.sample_lines == [0]
    assert step.sample_tokens.tolist() == [5]
    assert step.sample_positions.tolist() == [6]


def test_sampled_tokens_feed_the_next_step_without_the_host():
    rows = make_rows()
    append(rows, rows.apply(first_plan()), [99])
    step = rows.apply(
        StepPlan(
            step=1,
            pages=[PageDelta(0, 0, 1, [4]), PageDelta(1, 0, 1, [0])],
            rows=[2, 0],
            query_lens=[1, 2],
            num_computed=[6, 3],
            samples=[True, True],
        )
    )
    assert step.inputs.token_ids.tolist() == [99, 23, 24]
    assert step.inputs.positions.tolist() == [6, 3, 4]
    assert step.inputs.groups[0].slots.tolist() == [3 * PAGE + 2, 6 * PAGE + 3, 4 * PAGE]
    assert step.inputs.groups[1].slots.tolist() == [5 * PAGE + 2, 2 * PAGE + 3, 0]
    assert step.sample_tokens.tolist() == [0, 2]
    assert step.sample_positions.tolist() == [7, 5]


def test_a_failed_lines_token_is_a_valid_id():
    rows = make_rows()
    append(rows, rows.apply(first_plan()), [-1])
    assert rows.tokens[2, 6].item() == 0


def test_a_step_may_sample_nothing():
    rows = make_rows()
    plan = first_plan()
    plan.samples = [False, False]
    step = rows.apply(plan)
    append(rows, step, [])
    assert step.sample_lines == []
    assert step.sample_tokens.tolist() == [8]


def test_what_kernels_are_given_is_aligned_whatever_the_lengths():
    """Triton would compile them anew: 3.5 s for a long prompt's attention on an H200."""
    groups = [KVGroup(None, (LayerKV(0, 1, 8),))]
    rows = DeviceRows(3, 17, PAGE, groups, torch_ops("test"), detect("cpu"))
    step = rows.apply(
        StepPlan(0, [start(2, [10] * 5)], [PageDelta(0, 2, 0, [7, 3])], [2], [5], [0], [True])
    )
    (batch,) = step.inputs.groups
    given = (batch.query_starts, batch.seq_lens, batch.rows, batch.page_table, rows.tokens)
    assert [tensor.data_ptr() % 16 for tensor in given] == [0] * 5
    assert rows.tokens.stride(0) % 16 == batch.page_table.stride(0) % 16 == 0
