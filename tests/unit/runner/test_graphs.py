"""What graphs are fed; the graphs themselves run in tests/e2e where there is a GPU."""

import dataclasses
from collections.abc import Callable
from typing import NoReturn

import pytest
import torch

from quire.core.kv_spec import KVGroup, LayerKV
from quire.core.plan import PageDelta, RowStart, StepPlan
from quire.core.sampling_params import SamplingParams
from quire.kernels.select import reference_ops, triton_ops
from quire.models.decoder import Decoder
from quire.models.families import recipe_from_config
from quire.platform.detect import detect
from quire.runner import graph_pool
from quire.runner.graph_pool import GraphPool
from quire.runner.graphs import DecodeGraphs, Lines
from quire.runner.prompt_graphs import PromptGraphs, PromptInputs
from quire.runner.rows import DeviceRows, is_decode
from quire.sampling.sampler import Sampler

CAPS = detect("cpu")
GROUPS = [KVGroup(None, (LayerKV(0, 2, 8),)), KVGroup(300, (LayerKV(1, 2, 8),))]
PAGE = 4


def make_rows() -> DeviceRows:
    """Rows 2 and 0 hold prompts of 600 and 7 tokens."""
    by_parts = triton_ops(8, "test").by_parts
    ops = dataclasses.replace(reference_ops("test"), by_parts=by_parts)
    rows = DeviceRows(4, 1000, PAGE, GROUPS, ops, CAPS)
    lengths = {2: 600, 0: 7}
    starts = [RowStart(r, list(range(n)), n, SamplingParams(), 0, ()) for r, n in lengths.items()]
    pages = [
        PageDelta(group, row, 0, list(range(100 * group + row, 100 * group + row + -(-n // PAGE))))
        for row, n in lengths.items()
        for group in range(2)
    ]
    rows.apply(StepPlan(0, starts, pages, [2, 0], [600, 7], [0, 0], [True, True]))
    return rows


def make_decoder() -> Decoder:
    config = {"model_type": "llama", "vocab_size": 131, "hidden_size": 16, "num_hidden_layers": 1}
    config |= {"architectures": ["LlamaForCausalLM"], "num_attention_heads": 2}
    recipe = recipe_from_config(config | {"intermediate_size": 32})
    return Decoder(recipe, reference_ops("test"), torch.float32, torch.device("cpu"), 1000)


def decode_plan() -> StepPlan:
    pages = [PageDelta(0, 2, 150, [900]), PageDelta(1, 2, 150, [901])]
    return StepPlan(1, [], pages, [2, 0], [1, 1], [600, 6], [True, True])


def test_a_graph_is_fed_what_the_eager_step_would_be() -> None:
    expected = make_rows().apply(decode_plan()).inputs
    rows = make_rows()
    lines = Lines(rows, 8, CAPS)
    for _ in range(2):  # a bucket is used again
        assert lines.upload(decode_plan(), CAPS).tolist() == [2, 0]
        lines.stage(rows)
        made = lines.inputs
        assert made.token_ids[:2].tolist() == expected.token_ids.tolist()
        assert made.positions[:2].tolist() == expected.positions.tolist()
        assert lines.next_positions.tolist() == [601, 7, 0, 0, 0, 0, 0, 0]
        for group, eager in zip(made.groups, expected.groups, strict=True):
            assert group.slots.tolist() == [*eager.slots.tolist(), *[-1] * 6]
            assert torch.equal(group.page_table, eager.page_table)
            count = len(eager.parts)
            assert count > 2, "the long sequence is cut"
            assert torch.equal(group.parts[:count], eager.parts)
            assert (group.parts[count:] == -1).all()


def test_only_pure_decode_steps_are_replayed() -> None:
    def changed(**fields: object) -> bool:
        return is_decode(dataclasses.replace(decode_plan(), **fields), PAGE)

    assert changed()
    assert changed(pages=[])
    assert not changed(query_lens=[2, 1])
    assert not changed(samples=[True, False])
    assert not changed(starts=[RowStart(1, [1], 1, SamplingParams(), 0, ())])
    assert not changed(pages=[PageDelta(0, 2, 150, [900, 901])])
    assert not changed(pages=[PageDelta(0, 2, 149, [900])])
    assert not changed(pages=[PageDelta(0, 3, 150, [900])])


class FullDevice(GraphPool):
    """A pool without room for anything."""

    def __init__(self) -> None:  # no stream: there is no GPU
        self._caps, self._warned, self.tries = CAPS, False, 0

    def _record(self, work: Callable[[], object]) -> NoReturn:
        self.tries += 1
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_without_memory_for_a_graph_steps_run_without_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rows, pool = make_rows(), FullDevice()
    model = make_decoder()
    sampler = Sampler(131, 4, torch.device("cpu"), reference_ops("test"))
    decode = DecodeGraphs(model, [], rows, sampler, pool, CAPS)
    assert [decode.run(decode_plan()) for _ in range(5)] == [None] * 5
    assert pool.tries == 1
    prompts = PromptGraphs(model, [], rows, pool, CAPS)
    step = rows.apply(mixed_plan()).inputs
    assert [prompts.run(step) for _ in range(5)] == [None] * 5
    assert pool.tries == 2
    while decode.graphs.capture_ahead() or prompts.graphs.capture_ahead():
        assert pool.tries < 20
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "lower gpu_memory_utilization" in caplog.text


def test_a_capture_needs_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_pool, "unreserved_bytes", lambda caps: 1000)
    FullDevice()._make_room(1000)
    with pytest.raises(torch.OutOfMemoryError, match="1000 bytes are left, a capture takes 1001"):
        FullDevice()._make_room(1001)


def test_another_failure_of_a_capture_is_raised() -> None:
    class Broken(FullDevice):
        def _record(self, work: Callable[[], object]) -> NoReturn:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal memory access"):
        Broken().capture(lambda: None)


def test_a_graphs_inputs_are_aligned() -> None:
    for bucket in (1, 2, 8):
        lines = Lines(make_rows(), bucket, CAPS)
        given = [lines.rows, lines.seq_lens, *(group.parts for group in lines.inputs.groups)]
        assert [tensor.data_ptr() % 16 for tensor in given] == [0] * 4


def mixed_plan() -> StepPlan:
    """Row 2 decodes, row 0 computes three more tokens."""
    pages = [PageDelta(group, 2, 150, [900 + group]) for group in range(2)]
    return StepPlan(1, [], pages, [2, 0], [1, 3], [600, 4], [True, True])


def test_a_prompt_graph_is_fed_the_step_and_nothing_else() -> None:
    steps = [make_rows().apply(plan).inputs for plan in (mixed_plan(), decode_plan())]
    inputs = PromptInputs(make_rows(), 64, CAPS)
    for step in (*steps, steps[0]):  # a longer step leaves nothing behind
        inputs.fill(step)
        made, count, num_sequences = inputs.inputs, len(step.token_ids), 2
        assert made.token_ids[:count].tolist() == step.token_ids.tolist()
        assert made.positions[:count].tolist() == step.positions.tolist()
        for group, eager in zip(made.groups, step.groups, strict=True):
            assert group.slots.tolist() == [*eager.slots.tolist(), *[-1] * (64 - count)]
            starts = eager.query_starts.tolist()
            assert group.query_starts.tolist() == [*starts, *[count] * 14]
            assert group.seq_lens[:num_sequences].tolist() == eager.seq_lens.tolist()
            assert group.rows[:num_sequences].tolist() == eager.rows.tolist()
            assert torch.equal(group.parts[: len(eager.parts)], eager.parts)
            assert (group.parts[len(eager.parts) :] == -1).all()
