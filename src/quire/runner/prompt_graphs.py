"""Whole steps with prompts as CUDA graphs, as far as the host would be in the way.

Up to some number of tokens (`most_tokens`) a GPU is done with a step before the host has launched
its kernels one by one, and every sequence that decodes meanwhile waits for a prompt that joins.
Such a step is padded to a *bucket* of tokens and is one launch, from its integers to the sampled
tokens.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from quire.core.plan import StepPlan
from quire.kernels.attention import blocks
from quire.kernels.attention.blocks import max_blocks, plan_blocks
from quire.kernels.attention.parts import COLUMNS
from quire.kernels.batch import AttentionBatch, StepInputs
from quire.platform.caps import DeviceCaps
from quire.platform.streams import pinned
from quire.runner.buckets import EAGER_PROMPTS, CapturePolicy, buckets, ladder
from quire.runner.decode import DecodeOutput, is_decode
from quire.runner.graph_pool import BucketGraphs, GraphPool
from quire.runner.graphs import NUMBERS, WholeStep
from quire.runner.rows import DeviceRows, HostStep, aligned_ranges, fill
from quire.sampling.rows import DRAW_DTYPES, DrawNumbers

UNIT = 64  # tokens: buckets are multiples of it
# Products of a token with a weight that take an H200 as long as launching a layer takes a server's
# host: 0.5 to 0.9 ms. Of 28 layers of 16 M weights with 8192 tokens launches took 14 to 33 ms where
# the GPU needed 16.5; of 32 of 218 M, 650 to 1050 tokens, 17 to 28, the GPU 15 for 640 (2026-11).
LAYER_PRODUCTS = 260_000_000_000
# A bucket holds a sequence for so many of its tokens: attention starts programs for each.
TOKENS_PER_SEQUENCE = 4
# Few sequences have graphs of their own, since each is computed logits for and a token drawn from:
# 0.66 of 17.9 ms for 1024 of them beside 8192 tokens of Qwen3-0.6B (H200, 2026-11).
FEW = 64


def most_tokens(num_weights: int, num_layers: int, budget: int) -> int:
    """Of the largest step that is worth a graph, in a model of so many weights."""
    tokens = LAYER_PRODUCTS * num_layers // num_weights
    return min(budget, max(UNIT, tokens // UNIT * UNIT))


class PromptGraphs:
    """Graphs by bucket for one model, its cache and its rows, of up to `most` tokens."""

    def __init__(
        self,
        step: WholeStep,
        rows: DeviceRows,
        pool: GraphPool,
        caps: DeviceCaps,
        most: int,
    ) -> None:
        self._step, self._rows, self._caps, self._most = step, rows, caps, most
        sizes = buckets(most, UNIT)

        def graphs(sizes: Sequence[int], sequences: int) -> BucketGraphs[PromptLines]:
            return BucketGraphs(
                pool,
                CapturePolicy(sizes, ladder(sizes), EAGER_PROMPTS),
                lambda bucket: PromptLines(rows, bucket, caps, step.model.group_sizes, sequences),
                step.run,
            )

        self.few = graphs(sizes, FEW)
        most_sequences = rows.tokens.shape[0]
        more = [size for size in sizes if size > TOKENS_PER_SEQUENCE * FEW]
        self.many = graphs(more, most_sequences) if more and most_sequences > FEW else self.few
        self.kinds = [self.few] if self.many is self.few else [self.few, self.many]

    def run(self, plan: StepPlan) -> DecodeOutput | None:
        """Queue a step on the current stream; None to run it without a graph, or in one of those
        for steps that only decode."""
        needed = max(plan.num_tokens, TOKENS_PER_SEQUENCE * len(plan.rows))
        if not 0 < needed <= self._most or is_decode(plan, self._rows.page_size):
            return None
        few = len(plan.rows) <= FEW
        captured = (self.few if few else self.many).choose(needed)
        if few and needed > TOKENS_PER_SEQUENCE * FEW:  # rather one for many than a larger one
            captured = self.few.captured(needed) or self.many.captured(needed) or captured
        if captured is None:
            return None
        self._rows.enter(plan)
        step = HostStep.of(plan)
        numbers = self._step.sampler.host_numbers(step.sample_rows)
        captured.inputs.upload(step, numbers, self._caps)
        return self._step.replay(captured, step.sample_rows)


class PromptLines:
    """The static inputs of a bucket's graph, of no sequence at first; see `graphs.StepLines`.

    Tokens beyond the step's have no slot and belong to no sequence, sequences beyond it have no
    token: nothing of theirs is read or written but their own lines of the hidden states.
    """

    wanted: Tensor | None

    def __init__(
        self,
        rows: DeviceRows,
        bucket: int,
        caps: DeviceCaps,
        group_sizes: Sequence[int],
        sequences: int,
    ) -> None:
        device = torch.device(caps.torch_device)
        self._device_rows = rows
        size = min(bucket // TOKENS_PER_SEQUENCE, sequences, rows.tokens.shape[0])
        parts = [rows.max_parts(group, size) for group in range(len(rows.groups))]
        lengths = [size * dtype.itemsize // 4 for dtype in DRAW_DTYPES]
        lengths += [size + 1, size, size, bucket, bucket, size, size, size]
        self._places, num_ints = aligned_ranges([*lengths, *(COLUMNS * n for n in parts)])
        self._ints = torch.zeros(num_ints, dtype=torch.int32, device=device)
        views = [self._ints[place] for place in self._places]
        self.numbers = DrawNumbers(*map(Tensor.view, views[:NUMBERS], DRAW_DTYPES))
        starts, of_rows, seq_lens, *by_token = views[NUMBERS:]
        self._token_rows, self._token_lens, self.wanted, *by_sample = by_token
        self.rows, self.seq_lens, *by_group = by_sample
        for part in by_group:
            part.fill_(-1)
        self._no_pages = torch.full_like(self._token_rows, -1)
        token_ids, positions = (
            torch.zeros(bucket, dtype=torch.int64, device=device) for _ in range(2)
        )
        groups = tuple(
            AttentionBatch(
                query_starts=starts,
                seq_lens=seq_lens,
                rows=of_rows,
                page_table=table,
                slots=torch.full_like(positions, -1),
                page_size=rows.page_size,
                host_query_lens=np.zeros(size, dtype=np.int32),
                host_seq_lens=np.zeros(size, dtype=np.int32),
                max_query_len=bucket,
                max_seq_len=rows.max_len,
                parts=part.view(-1, COLUMNS),
                arrivals=arrivals,
                captured=True,
                # In no memory of the graph's, where a kernel before attention may leave something.
                blocks={
                    (group.window, heads): torch.zeros(
                        (1 + max_blocks(bucket, size, heads), blocks.COLUMNS),
                        dtype=torch.int32,
                        device=device,
                    )
                    for heads in {group_sizes[layer.layer] for layer in group.layers}
                },
            )
            for group, table, part, arrivals in zip(
                rows.groups, rows.page_tables, by_group, rows.arrivals, strict=True
            )
        )
        self.inputs = StepInputs(token_ids, positions, groups)

    def upload(self, step: HostStep, numbers: Sequence[np.ndarray], caps: DeviceCaps) -> None:
        """Send a step's integers: in one copy, but for attention's blocks. `numbers` are
        `RowTable.host_numbers` of the rows that sample."""
        host = pinned(tuple(self._ints.shape), torch.int32, caps)
        into = iter(host.numpy()[place] for place in self._places)
        positions = step.by_sample[2].astype(np.int64)
        for array in (*numbers, positions):
            fill(next(into), array.view(np.int32), 0)  # padding is greedy
        query_starts = step.by_sequence[0]
        fill(next(into), query_starts, query_starts[-1])
        for array in (*step.by_sequence[1:], *step.by_token, *step.by_sample):
            fill(next(into), array, 0)
        for group, place in enumerate(into):
            fill(place, self._device_rows.plan_parts(group, *step.by_sequence), -1)
        self._ints.copy_(host, non_blocking=True)
        query_lens, (_, _, seq_lens) = step.query_lens, step.by_sequence
        for own in self.inputs.groups:
            for (window, heads), plan in own.blocks.items():
                planned = plan_blocks(query_lens, seq_lens, heads, window, skip_single=True)
                block_host = pinned(planned.shape, torch.int32, caps)
                block_host.numpy()[:] = planned
                plan[: len(planned)].copy_(block_host, non_blocking=True)

    def stage(self, rows: DeviceRows) -> None:
        """Fill the inputs on the device from the uploaded integers."""
        for group in self.inputs.groups:
            rows.stage(
                group.page_table,
                self._token_rows,
                self._token_lens,
                self._no_pages,
                self.inputs.token_ids,
                self.inputs.positions,
                group.slots,
            )
