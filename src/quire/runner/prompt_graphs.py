"""The forward of steps with short prompts as CUDA graphs.

Up to some hundreds of tokens a GPU is done with a step before the host has launched its kernels
one by one, and every sequence that decodes meanwhile waits for a prompt that joins. Such a step
is padded to a *bucket* of tokens: its inputs are made as for any step, copied to where the graph
reads them, and the forward is one launch. Logits and sampling, a few kernels, stay outside.
"""

import numpy as np
import torch
from torch import Tensor

from quire.kernels.attention.parts import COLUMNS
from quire.kernels.batch import AttentionBatch, LayerCache, StepInputs
from quire.platform.caps import DeviceCaps
from quire.runner.buckets import CapturePolicy
from quire.runner.graph_pool import BucketGraphs, GraphPool
from quire.runner.model import Model
from quire.runner.rows import DeviceRows

# Of an 8B model on an H200 a step of 640 tokens takes as long as its launches (2026-11).
MAX_TOKENS = 640
BUCKETS = tuple(range(64, MAX_TOKENS + 1, 64))
LADDER = (64, 128, 256, 512, 640)
# A bucket holds a sequence for so many of its tokens: attention starts programs for each.
TOKENS_PER_SEQUENCE = 4


class PromptGraphs:
    """Graphs by bucket for one model, its cache and its rows."""

    def __init__(
        self,
        model: Model,
        caches: list[LayerCache],
        rows: DeviceRows,
        pool: GraphPool,
        caps: DeviceCaps,
    ) -> None:
        self._model, self._caches = model, caches
        self.graphs = BucketGraphs(
            pool,
            CapturePolicy(BUCKETS, LADDER),
            lambda bucket: PromptInputs(rows, bucket, caps),
            self._forward,
        )

    def run(self, inputs: StepInputs) -> Tensor | None:
        """Queue the forward of a step on the current stream: hidden states [T, E], valid until the
        next replay of any graph. None to run it without a graph."""
        group = inputs.groups[0]
        num_tokens = len(inputs.token_ids)
        needed = max(num_tokens, TOKENS_PER_SEQUENCE * len(group.seq_lens))
        if group.max_query_len < 2 or needed > MAX_TOKENS:
            return None
        captured = self.graphs.choose(needed)
        if captured is None:
            return None
        captured.inputs.fill(inputs)
        captured.graph.replay()
        return captured.output[:num_tokens]

    def _forward(self, inputs: "PromptInputs") -> Tensor:
        return self._model.forward(inputs.inputs, self._caches)


class PromptInputs:
    """The static inputs of a bucket's graph, of no sequence at first.

    Tokens beyond the step's have no slot and belong to no sequence, sequences beyond it have no
    token: nothing of theirs is read or written but their own lines of the hidden states.
    """

    def __init__(self, rows: DeviceRows, bucket: int, caps: DeviceCaps) -> None:
        device = torch.device(caps.torch_device)
        num_sequences = bucket // TOKENS_PER_SEQUENCE
        token_ids, positions = torch.zeros(2, bucket, dtype=torch.int64, device=device)
        seq_lens, of_rows = torch.zeros(2, num_sequences, dtype=torch.int32, device=device)
        starts = torch.zeros(num_sequences + 1, dtype=torch.int32, device=device)
        groups = []
        for group, (table, arrivals) in enumerate(
            zip(rows.page_tables, rows.arrivals, strict=True)
        ):
            shape = (rows.max_parts(group, num_sequences), COLUMNS)
            groups.append(
                AttentionBatch(
                    query_starts=starts,
                    seq_lens=seq_lens,
                    rows=of_rows,
                    page_table=table,
                    slots=torch.full_like(positions, -1),
                    page_size=rows.page_size,
                    host_query_lens=np.zeros(num_sequences, dtype=np.int32),
                    host_seq_lens=np.zeros(num_sequences, dtype=np.int32),
                    max_query_len=bucket,
                    max_seq_len=rows.max_len,
                    parts=torch.full(shape, -1, dtype=torch.int32, device=device),
                    arrivals=arrivals,
                    captured=True,
                )
            )
        self.inputs = StepInputs(token_ids, positions, tuple(groups))

    def fill(self, step: StepInputs) -> None:
        """Make a step's inputs those of the graph's next replay."""
        num_tokens, first = len(step.token_ids), self.inputs.groups[0]
        num_sequences = len(step.groups[0].seq_lens)
        self.inputs.token_ids[:num_tokens].copy_(step.token_ids)
        self.inputs.positions[:num_tokens].copy_(step.positions)
        first.query_starts[: num_sequences + 1].copy_(step.groups[0].query_starts)
        first.query_starts[num_sequences + 1 :].fill_(num_tokens)
        first.seq_lens[:num_sequences].copy_(step.groups[0].seq_lens)
        first.rows[:num_sequences].copy_(step.groups[0].rows)
        for own, group in zip(self.inputs.groups, step.groups, strict=True):
            own.slots[:num_tokens].copy_(group.slots)
            own.slots[num_tokens:].fill_(-1)
            assert own.parts is not None
            assert group.parts is not None
            num_parts = len(group.parts)
            own.parts[:num_parts].copy_(group.parts)
            own.parts[num_parts:].fill_(-1)
