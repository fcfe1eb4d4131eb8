"""CUDA graphs of whole decode steps: the forward and the logits in one launch.

A decode step of a large model is some hundreds of kernels that each run a few microseconds;
launching them one by one takes the host longer than the device. A graph is captured for a
*bucket*, a number of rows that smaller batches are padded to, when the bucket is needed for the
second time, so nothing is captured that is not used and start-up waits for none. All graphs
share one memory pool: they never run at the same time.

Padding sequences have no query (`query_starts` stands still) and slot -1, so nothing of theirs
is read or written but their own rows of the output. Lengths are not fixed by the capture: the
kernels read them from the device; the attention's split count is the one for the longest
sequence. Anything that is not a pure decode step runs without a graph.
"""

import dataclasses
import logging

import torch
from torch import Tensor

from quire.kernels.batch import AttentionBatch, LayerCache, StepInputs
from quire.runner.model import Model
from quire.runner.rows import DeviceStep

logger = logging.getLogger("quire")

NO_SLOT = -1  # `write_kv` skips it


def buckets(max_rows: int) -> tuple[int, ...]:
    """Row counts that graphs are captured for: at most an eighth, or seven rows, of padding."""
    sizes = [1, 2, 4, *range(8, 128, 8), *range(128, max_rows, 16)]
    return (*(size for size in sizes if size < max_rows), max_rows)


@dataclasses.dataclass(frozen=True, slots=True)
class _Captured:
    graph: torch.cuda.CUDAGraph
    inputs: StepInputs  # static: refilled before each replay
    logits: Tensor  # [bucket, V] fp32, rewritten by each replay


class DecodeGraphs:
    """Graphs by bucket for one model and its cache.

    Args:
        max_len: the longest sequence; fixes how many ways decode attention may split keys.
    """

    def __init__(self, model: Model, caches: list[LayerCache], max_rows: int, max_len: int) -> None:
        self._model = model
        self._caches = caches
        self._max_len = max_len
        self._buckets = buckets(max_rows)
        self._captured: dict[int, _Captured] = {}
        self._seen: set[int] = set()
        self._pool = torch.cuda.graph_pool_handle()

    def logits(self, step: DeviceStep) -> Tensor | None:
        """Logits [S, V] of a pure decode step, valid until the next call; None to run it eagerly.

        Queues work on the current stream; waits for the device only when it captures.
        """
        inputs = step.inputs
        rows = len(inputs.token_ids)
        if inputs.groups[0].max_query_len != 1 or len(step.sample_lines) != rows:
            return None
        bucket = next(size for size in self._buckets if size >= rows)
        if bucket not in self._seen:
            self._seen.add(bucket)
            return None
        captured = self._captured.get(bucket)
        if captured is None:
            captured = self._captured[bucket] = self._capture(inputs, bucket)
        _fill(captured.inputs, inputs)
        captured.graph.replay()
        return captured.logits[:rows]

    def _capture(self, like: StepInputs, bucket: int) -> _Captured:
        static = self._padded(like, bucket)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):  # once before: kernels compile, libraries make workspaces
            self._model.logits(self._model.forward(static, self._caches))
        torch.cuda.current_stream().wait_stream(side)
        with torch.cuda.graph(graph, pool=self._pool):
            logits = self._model.logits(self._model.forward(static, self._caches))
        logger.debug("captured a CUDA graph of %d rows", bucket)
        return _Captured(graph, static, logits)

    def _padded(self, like: StepInputs, bucket: int) -> StepInputs:
        """Static inputs of `bucket` sequences of one query each, none of which is real yet."""

        def pad(values: Tensor, size: int, filler: int) -> Tensor:
            return values.new_full((size,), filler)

        groups = tuple(
            dataclasses.replace(
                group,
                query_starts=pad(group.query_starts, bucket + 1, 0),
                seq_lens=pad(group.seq_lens, bucket, 1),
                rows=pad(group.rows, bucket, 0),
                slots=pad(group.slots, bucket, NO_SLOT),
                max_query_len=1,
                max_seq_len=self._max_len,
            )
            for group in like.groups
        )
        return StepInputs(pad(like.token_ids, bucket, 0), pad(like.positions, bucket, 0), groups)


def _fill(static: StepInputs, inputs: StepInputs) -> None:
    """Put a step of S sequences into static inputs of a bucket, the rest made padding."""
    rows = len(inputs.token_ids)
    static.token_ids[:rows].copy_(inputs.token_ids)
    static.positions[:rows].copy_(inputs.positions)
    for to, group in zip(static.groups, inputs.groups):
        _fill_group(to, group, rows)


def _fill_group(to: AttentionBatch, group: AttentionBatch, rows: int) -> None:
    to.query_starts[: rows + 1].copy_(group.query_starts)
    to.query_starts[rows + 1 :].fill_(rows)
    to.seq_lens[:rows].copy_(group.seq_lens)
    to.rows[:rows].copy_(group.rows)
    to.slots[:rows].copy_(group.slots)
    to.slots[rows:].fill_(NO_SLOT)
