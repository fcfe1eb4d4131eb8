"""What graphs are fed; the graphs themselves run in tests/e2e where there is a GPU."""

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING, NoReturn, cast

import pytest
import torch

from quire.core.kv_spec import KVGroup, LayerKV
from quire.core.plan import PageDelta, RowStart, StepPlan
from quire.core.sampling_params import SamplingParams
from quire.kernels.attention.blocks import plan_blocks
from quire.kernels.batch import LayerCache, StepInputs
from quire.kernels.select import reference_ops, triton_ops
from quire.models.decoder import Decoder
from quire.models.families import recipe_from_config
from quire.platform.detect import detect
from quire.runner import capturing, graph_pool, prompt_graphs
from quire.runner.buckets import CapturePolicy
from quire.runner.capturing import Captures
from quire.runner.decode import is_decode
from quire.runner.graph_pool import SLACK, BucketGraphs, GraphPool, Recorded
from quire.runner.graphs import DecodeGraphs, Lines, WholeStep
from quire.runner.model import Model
from quire.runner.prompt_graphs import PromptGraphs, PromptLines
from quire.runner.rows import DeviceRows, HostStep
from quire.runner.runner import Runner
from quire.sampling.rows import DRAW_DTYPES
from quire.sampling.sampler import Sampler

if TYPE_CHECKING:
    from quire.kernels.compiling import Compiler, Listing

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
    sampler = Sampler(131, 4, torch.device("cpu"), reference_ops("test"))
    drawn = SamplingParams(temperature=0.5, top_k=7, top_p=0.25, min_p=0.125)
    sampler.rows.start(RowStart(2, [], 600, drawn, -5, ()))
    sampler.rows.start(RowStart(0, [], 7, SamplingParams(temperature=0), 3, ()))
    for _ in range(2):  # a bucket is used again
        numbers = sampler.host_numbers(decode_plan().rows)
        assert lines.upload(decode_plan(), numbers, CAPS).tolist() == [2, 0]
        lines.stage(rows)
        made = lines.inputs
        assert made.token_ids[:2].tolist() == expected.token_ids.tolist()
        assert made.positions[:2].tolist() == expected.positions.tolist()
        assert [values[:2].tolist() for values in lines.numbers] == [
            [0.5, 0.0], [7, 0], [0.25, 1.0], [0.125, 0.0], [-5, 3], [601, 7]
        ]  # fmt: skip
        for values, expected_dtype in zip(lines.numbers, DRAW_DTYPES, strict=True):
            assert values.dtype == expected_dtype
            assert values[2:].tolist() == [0] * 6, "padding is greedy"
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


class Kernels:
    """In the place of a listing."""

    def __init__(self, missing: bool) -> None:
        self.missing, self.waited = missing, 0

    def start(self) -> None:
        pass

    def wait(self) -> None:
        self.waited += 1


class Graph:
    """In the place of a graph: works again when replayed."""

    def __init__(self, work: Callable[[], torch.Tensor]) -> None:
        self.output, self._work, self.replays = work(), work, 0

    def replay(self) -> None:
        self.output.copy_(self._work())
        self.replays += 1


class Pool(GraphPool):
    """Without a GPU: what is recorded runs at once, and `incomplete` times lacks kernels."""

    def __init__(self, incomplete: int = 0) -> None:
        self._caps, self._room, self._warned = CAPS, 1000, False
        self.compiler = cast("Compiler", SimpleNamespace(launching=nullcontext, close=list))
        self.incomplete, self.tries = incomplete, 0
        self.missed = threading.Event()
        self.listings: list[Kernels] = []
        self.graphs: list[Graph] = []

    @property
    def replays(self) -> int:
        return sum(graph.replays for graph in self.graphs)

    def record(self, work: Callable[[], torch.Tensor]) -> Recorded:
        self.tries += 1
        self.listings.append(Kernels(self.tries <= self.incomplete))
        graph = Graph(work)
        self.graphs.append(graph)
        return Recorded(
            cast("torch.cuda.CUDAGraph", graph), graph.output, cast("Listing", self.listings[-1])
        )


def graphs_of(pool: GraphPool) -> tuple[DecodeGraphs, PromptGraphs]:
    rows, model = make_rows(), make_decoder()
    sampler = Sampler(131, 4, torch.device("cpu"), reference_ops("test"))
    step = WholeStep(model, [], rows, sampler)
    return DecodeGraphs(step, rows, pool, CAPS), PromptGraphs(step, rows, pool, CAPS, 640)


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets how many bytes are left."""

    def left(number: int) -> None:
        monkeypatch.setattr(graph_pool, "unreserved_bytes", lambda caps: number)

    return left


def test_without_memory_for_a_graph_steps_run_without_one(
    caplog: pytest.LogCaptureFixture, free: Callable[[int], None]
) -> None:
    pool = Pool()
    decode, prompts = graphs_of(pool)
    free(SLACK + 999)
    for _ in range(5):
        assert decode.run(decode_plan()) is None
        assert prompts.run(mixed_plan()) is None
        decode.graphs.capture_next(idle=False)
        prompts.few.capture_next(idle=False)
    kinds = decode.graphs, prompts.few, prompts.many
    while any(graphs.capture_next(idle=True) for graphs in kinds):
        pass
    assert pool.tries == 0
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "lower gpu_memory_utilization" in caplog.text


def test_a_capture_waits_for_its_kernels_and_is_made_again(free: Callable[[int], None]) -> None:
    free(SLACK + 1000)
    pool = Pool(incomplete=2)
    made: list[int] = []
    graphs = BucketGraphs(
        pool,
        CapturePolicy((4, 8), (8,)),
        lambda bucket: made.append(bucket) or bucket,  # type: ignore[func-returns-value]
        lambda inputs: torch.full((inputs,), len(made)),
    )
    assert graphs.choose(3) is None
    assert not graphs.capture_next(idle=False)
    assert graphs.choose(3) is None
    assert graphs.capture_next(idle=False)
    assert made == [4] * 3, "inputs anew for each try"
    assert [listing.waited for listing in pool.listings] == [1, 1, 0]
    captured = graphs.choose(3)
    assert captured is not None
    assert captured.output.tolist() == [3] * 4
    assert graphs.capture_next(idle=True)
    assert not graphs.capture_next(idle=True)
    assert made == [4] * 3 + [8]


def test_memory_that_runs_out_in_a_capture_refuses_it(
    free: Callable[[int], None], caplog: pytest.LogCaptureFixture
) -> None:
    free(SLACK + 1000)

    def step(inputs: int) -> NoReturn:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    graphs = BucketGraphs(Pool(), CapturePolicy((4, 8), (4, 8)), lambda bucket: bucket, step)
    while graphs.capture_next(idle=True):
        pass
    assert graphs.choose(3) is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def broken(inputs: int) -> NoReturn:
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def captures_of(step: Callable[[int], torch.Tensor]) -> tuple[Captures, BucketGraphs[int]]:
    policy = CapturePolicy((4, 8), (8,))
    pool = Pool()
    graphs = BucketGraphs(pool, policy, lambda bucket: bucket, step)
    return Captures([graphs], pool.missed, CAPS), graphs


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5.0
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.001)
    assert condition()


def test_another_failure_of_a_capture_is_raised_by_the_next_step(
    free: Callable[[int], None],
) -> None:
    free(SLACK + 1000)
    captures, graphs = captures_of(broken)
    for _ in range(2):
        captures.note_step()
        graphs.choose(3)
    captures.start()

    def failed() -> bool:
        try:
            captures.note_step()
        except RuntimeError as error:
            return "capture failed: CUDA error: an illegal memory access" in str(error)
        return False

    wait_until(failed)
    captures.close()


def test_what_steps_miss_is_captured_beside_them_and_the_rest_when_there_are_none(
    free: Callable[[int], None],
) -> None:
    free(SLACK + 1000)
    captures, graphs = captures_of(lambda inputs: torch.zeros(inputs))
    captures.start()
    missed = 0

    def replayed() -> bool:
        nonlocal missed
        captures.note_step()
        captured = graphs.choose(3)
        missed += captured is None
        return captured is not None and captured.inputs == 4

    wait_until(replayed)
    assert missed >= 2
    assert (ahead := graphs.choose(7)) is None or ahead.inputs == 8
    wait_until(lambda: graphs.choose(7) is not None)  # no step is submitted
    captures.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "quire-captures"]


def test_captures_under_load_are_apart_and_say_that_they_are_under_way(
    free: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    free(SLACK + 1000)
    monkeypatch.setattr(capturing, "PAUSE", 0.2)
    began, may_end = [], threading.Event()

    def step(bucket: int) -> torch.Tensor:
        began.append(time.monotonic())
        may_end.wait(5.0)
        return torch.zeros(bucket)

    captures, graphs = captures_of(step)
    assert not captures.busy
    captures.start()

    def missing() -> bool:
        captures.note_step()
        return graphs.choose(3) is None or graphs.choose(7) is None

    wait_until(lambda: missing() and captures.busy)
    captures.note_step()
    may_end.set()
    wait_until(lambda: not missing() and not captures.busy)
    captures.close()
    first, second = began
    assert second - first >= 0.2


def test_the_thread_ends_when_nobody_holds_it() -> None:
    captures, _ = captures_of(broken)
    captures.start()
    del captures
    assert not [thread for thread in threading.enumerate() if thread.name == "quire-captures"]


def test_a_graphs_inputs_are_aligned() -> None:
    for bucket in (1, 2, 8):
        lines = Lines(make_rows(), bucket, CAPS)
        given = [lines.rows, lines.seq_lens, *(group.parts for group in lines.inputs.groups)]
        given += [lines.inputs.token_ids, lines.inputs.positions]
        assert [tensor.data_ptr() % 16 for tensor in given] == [0] * 6


def mixed_plan() -> StepPlan:
    """Row 2 decodes, row 0 computes three more tokens."""
    pages = [PageDelta(group, 2, 150, [900 + group]) for group in range(2)]
    return StepPlan(1, [], pages, [2, 0], [1, 3], [600, 4], [True, True])


def test_a_prompt_graph_is_fed_the_step_and_nothing_else() -> None:
    plans = [mixed_plan(), decode_plan()]
    rows = make_rows()
    lines = PromptLines(rows, 64, CAPS, [100, 100], 64)
    sampler = Sampler(131, 4, torch.device("cpu"), reference_ops("test"))
    sampler.rows.start(RowStart(2, [1], 1, SamplingParams(temperature=0.5, seed=9), 0, ()))
    windows = [group.window for group in GROUPS]
    for plan in (*plans, plans[0]):  # a longer step leaves nothing behind
        expected = make_rows().apply(plan)
        rows.enter(plan)
        step = HostStep.of(plan)
        numbers = sampler.host_numbers(step.sample_rows)
        lines.upload(step, numbers, CAPS)
        lines.stage(rows)
        made, eager = lines.inputs, expected.inputs
        count, padding = len(eager.token_ids), [0] * (64 - len(eager.token_ids))
        assert made.token_ids.tolist() == [*eager.token_ids.tolist(), *padding]
        assert made.positions.tolist() == [*eager.positions.tolist(), *padding]
        for window, group, own in zip(windows, made.groups, eager.groups, strict=True):
            lengths = own.host_query_lens, own.host_seq_lens
            planned = torch.from_numpy(plan_blocks(*lengths, 100, window, True))
            assert len(planned) == 1 + (3 if count == 4 else 0)
            assert torch.equal(group.blocks[window, 100][: len(planned)], planned)
            assert group.slots.tolist() == [*own.slots.tolist(), *[-1] * (64 - count)]
            assert group.query_starts.tolist() == [*own.query_starts.tolist(), count, count]
            assert group.seq_lens.tolist() == [*own.seq_lens.tolist(), 0, 0]
            assert group.rows.tolist() == [*own.rows.tolist(), 0, 0]
            assert torch.equal(group.parts[: len(own.parts)], own.parts)
            assert (group.parts[len(own.parts) :] == -1).all()
        assert lines.wanted is not None
        assert lines.wanted[:2].tolist() == expected.sample_tokens.tolist()
        assert lines.rows.tolist() == [2, 0, 0, 0]
        assert lines.numbers.positions.tolist() == [601, 7, 0, 0]
        assert lines.numbers.temperature.tolist() == [0.5, 0, 0, 0]
        assert lines.numbers.seed.tolist()[0] == numbers[4][0]


class Sums:
    """A model whose next token depends on all that a graph is fed."""

    capturable, logits_dtype = True, torch.float32
    group_sizes = (2, 2)

    def forward(
        self, inputs: StepInputs, kv: Sequence[LayerCache], wanted: torch.Tensor | None = None
    ) -> torch.Tensor:
        slots = sum((group.slots for group in inputs.groups), torch.zeros(()))
        hidden = (5 * inputs.token_ids + 3 * inputs.positions + slots).view(-1, 1)
        return hidden if wanted is None else hidden.index_select(0, wanted)

    def parts(self) -> None:
        return None

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return -(torch.arange(131) - hidden % 131).abs().float()


def test_few_sequences_have_graphs_of_fewer_logits(
    free: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    free(SLACK + 1000)
    monkeypatch.setattr(prompt_graphs, "FEW", 2)
    rows, pool = make_rows(), Pool()
    sampler = Sampler(131, 4, torch.device("cpu"), reference_ops("test"))
    step = WholeStep(cast("Model", Sums()), [], rows, sampler)
    prompts = PromptGraphs(step, rows, pool, CAPS, 640)
    three = StepPlan(2, [], [], [2, 0, 1], [1, 3, 1], [600, 4, 7], [True] * 3)
    two = StepPlan(3, [], [], [2, 0], [9, 3], [591, 4], [True] * 2)
    for plan, graphs, most in ((three, prompts.many, 4), (two, prompts.few, 2)):
        # The graph of many is there for few while they have none.
        assert (prompts.run(plan) is None) == (graphs is prompts.many)
        assert graphs.capture_next(idle=False)
        captured = graphs.captured(64)
        assert captured is not None
        assert captured.inputs.wanted is not None
        assert len(captured.inputs.wanted) == most
        drawn = prompts.run(plan)
        assert drawn is not None
        assert len(drawn.token_ids) == len(plan.rows)


def test_a_step_with_prompts_gives_the_same_in_a_graph(free: Callable[[int], None]) -> None:
    free(SLACK + 1000)
    ops = reference_ops("test")
    logprobs = SamplingParams(temperature=0, logprobs=1)
    greedy = SamplingParams(temperature=0)

    def plans() -> list[StepPlan]:
        starts = [
            RowStart(row, list(range(9, 9 + n)), n, params, 0, ())
            for row, n, params in ((2, 30, greedy), (0, 40, logprobs), (1, 4, greedy))
        ]
        pages = [
            PageDelta(group, row, 0, list(range(first, first + 10)))
            for group in range(2)
            for row, first in ((2, 10), (0, 30), (1, 50))
        ]
        cached = [RowStart(3, list(range(70, 83)), 13, greedy, 0, ())]
        shared = [PageDelta(group, 3, 0, list(range(10, 14))) for group in range(2)]
        return [
            StepPlan(
                0, starts[:2], pages[:2] + pages[3:5], [2, 0], [30, 17], [0, 0], [True, False]
            ),
            StepPlan(1, [], [], [2, 0], [1, 23], [30, 17], [True, True]),
            StepPlan(
                2, starts[2:], pages[2::3], [2, 0, 1], [1, 1, 4], [31, 40, 0], [True, True, True]
            ),
            StepPlan(3, [], [], [1, 2], [1, 1], [4, 32], [True, True]),
            # All but a token of the prompt was found in the cache.
            StepPlan(4, cached, shared, [1, 3], [1, 1], [5, 12], [True, True]),
        ]

    def outcome(pool: Pool | None) -> tuple[list[list[list[int]]], torch.Tensor, list[set[int]]]:
        rows = DeviceRows(4, 1000, PAGE, GROUPS, ops, CAPS)
        runner = Runner(Sums(), [], rows, ops, 131, CAPS, pool, 640)
        if runner._captures is not None:
            while runner._captures.capture_next():
                pass
        results = [runner.submit(plan).result() for plan in plans()]
        asked = [set(result.logprobs) for result in results]
        if pool is not None:
            assert pool.replays == 5
        return [result.token_ids for result in results], rows.tokens, asked

    tokens, kept, asked = outcome(None)
    assert [len(own) for own in tokens[0]] == [1, 0]
    assert asked == [set(), {1}, {1}, set(), set()]
    in_graphs = outcome(Pool())
    assert in_graphs[0] == tokens
    assert torch.equal(in_graphs[1], kept)
    assert in_graphs[2] == asked


def test_with_the_gpus_kernels_a_step_gives_the_same_in_a_graph(
    free: Callable[[int], None],
) -> None:
    free(SLACK + 1000)
    config = {"model_type": "llama", "vocab_size": 131, "hidden_size": 32, "num_hidden_layers": 1}
    config |= {"architectures": ["LlamaForCausalLM"], "num_attention_heads": 4, "head_dim": 16}
    recipe = recipe_from_config(config | {"num_key_value_heads": 2, "intermediate_size": 48})
    ops, caps = triton_ops(8, "test"), detect("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(caps.torch_device)
    model = Decoder(recipe, ops, torch.float32, device, 200)
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    greedy, drawn = SamplingParams(temperature=0), SamplingParams(temperature=0.8, top_k=20)
    prompts = {2: (30, greedy), 0: (40, drawn), 1: (4, greedy)}
    starts = [RowStart(row, list(range(n)), n, p, row, ()) for row, (n, p) in prompts.items()]
    pages = [PageDelta(0, 2, 0, [1, 2]), PageDelta(0, 0, 0, [3, 4, 5]), PageDelta(0, 1, 0, [6])]
    plans = [
        StepPlan(0, starts[:2], pages[:2], [2, 0], [30, 17], [0, 0], [True, False]),
        StepPlan(1, starts[2:], pages[2:], [2, 0, 1], [1, 23, 4], [30, 17, 0], [True] * 3),
    ]

    def outcome(pool: Pool | None) -> tuple[list[list[list[int]]], torch.Tensor]:
        # Pages that nobody has written must not be read.
        nothing = torch.full((8, 2, 16, 16), float("nan"), device=device)
        rows = DeviceRows(4, 200, 16, recipe.kv_groups(), ops, caps)
        runner = Runner(model, [(nothing, nothing.clone())], rows, ops, 131, caps, pool, 64)
        if runner._prompt_graphs is not None:
            graphs = runner._prompt_graphs.few
            while graphs.choose(50) is None:
                graphs.capture_next(idle=False)
        return [runner.submit(plan).result().token_ids for plan in plans], rows.tokens

    tokens, kept = outcome(None)
    assert [len(own) for own in tokens[0]] == [1, 0]
    pool = Pool()
    in_graphs = outcome(pool)
    assert pool.replays == 2
    assert in_graphs[0] == tokens
    assert torch.equal(in_graphs[1], kept)
