"""Device rows: the persistent per-sequence state on the device, and a step's inputs from it.

A row holds a sequence's token ids and page tables for as long as it runs. Prefill, decode and
everything between gather their input ids from the same place, and sampled tokens are written
back to it on the device, so the next step never waits for the host.

Integers go into one buffer, are copied once, and are cut into views on the device. Runs in the
worker; owns no policy.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from quire.core.kv_spec import KVGroup
from quire.core.plan import StepPlan
from quire.kernels.attention.parts import COLUMNS
from quire.kernels.batch import AttentionBatch, StepInputs
from quire.kernels.table import Ops
from quire.platform.caps import DeviceCaps
from quire.platform.streams import pinned


@dataclass(frozen=True, slots=True)
class HostStep:
    """A plan's integers: S sequences, T tokens, S' sequences that sample. Arrays are int32.

    Args:
        query_lens: [S].
        by_sequence: query_starts [S + 1], rows and seq_lens [S], as in `AttentionBatch`.
        by_token: rows [T], and how long each token's sequence is with it [T].
        by_sample: the last computed token's index in [0, T), rows and sequence lengths [S']; the
            step's last token if none samples, so that no kernel gets nothing.
        sample_lines: plan index of each of these.
    """

    query_lens: np.ndarray
    by_sequence: tuple[np.ndarray, np.ndarray, np.ndarray]
    by_token: tuple[np.ndarray, np.ndarray]
    by_sample: tuple[np.ndarray, np.ndarray, np.ndarray]
    sample_lines: list[int]

    @staticmethod
    def of(plan: StepPlan) -> "HostStep":
        query_lens = np.array(plan.query_lens, dtype=np.int32)
        computed = np.array(plan.num_computed, dtype=np.int32)
        rows = np.array(plan.rows, dtype=np.int32)
        seq_lens = computed + query_lens
        query_starts = np.zeros(len(rows) + 1, dtype=np.int32)
        np.cumsum(query_lens, out=query_starts[1:])
        # A token's place: its index in the step, shifted by where its sequence stands.
        shift = np.repeat(computed - query_starts[:-1] + 1, query_lens)
        token_lens = np.arange(query_starts[-1], dtype=np.int32) + shift
        sample_lines = [i for i, samples in enumerate(plan.samples) if samples]
        lines = np.array(sample_lines, dtype=np.int64)
        return HostStep(
            query_lens,
            (query_starts, rows, seq_lens),
            (np.repeat(rows, query_lens), token_lens),
            (
                (query_starts[1:][lines] if sample_lines else query_starts[-1:]) - 1,
                rows[lines],
                seq_lens[lines],
            ),
            sample_lines,
        )

    @property
    def sample_rows(self) -> np.ndarray:
        return self.by_sample[1]


@dataclass(frozen=True, slots=True)
class DeviceStep:
    """A step on the device.

    Args:
        sample_rows: [S'] host int32, rows that sample in this step.
        sample_lines: plan index of each of them.
        sample_tokens: int32, see `HostStep.by_sample`.
        sample_positions: [S'] int64, the position its next token will take.
        sample_rows_device: [S'] int32.
    """

    inputs: StepInputs
    sample_rows: np.ndarray
    sample_lines: list[int]
    sample_tokens: Tensor
    sample_positions: Tensor
    sample_rows_device: Tensor


class DeviceRows:
    """Token ids [R, L] and one page table [R, M] a KV group, on the device.

    Args:
        ops: `stage` and `append` are used, and the plan of attention's parts.
    """

    def __init__(
        self,
        num_rows: int,
        max_len: int,
        page_size: int,
        groups: Sequence[KVGroup],
        ops: Ops,
        caps: DeviceCaps,
    ) -> None:
        self.page_size = page_size
        self.max_len = max_len
        self.width = _rounded(-(-max_len // page_size))  # M
        self.groups = groups
        self._stride = _rounded(max_len)  # L
        self._by_parts = ops.by_parts
        self._append = ops.append
        self._caps = caps
        self._device = torch.device(caps.torch_device)
        self.arrivals = [
            torch.zeros(num_rows, _kv_heads(group), dtype=torch.int32, device=self._device)
            for group in groups
        ]
        self.tokens = torch.zeros(num_rows, self._stride, dtype=torch.int32, device=self._device)
        # The inputs of single tokens, all on the device. What `kernels.stage` calls a sequence's
        # length is here how long it is with that token.
        self.stage = partial(ops.stage, self.tokens, page_size)
        self.page_tables = [
            torch.zeros(num_rows, self.width, dtype=torch.int32, device=self._device)
            for _ in groups
        ]

    def enter(self, plan: StepPlan) -> None:
        """Bring the rows up to date with `plan`: new pages, and tokens of sequences that start."""
        if not (plan.pages or plan.starts):
            return
        arrays: list[Sequence[int] | np.ndarray] = []
        for group in range(len(self.groups)):
            arrays += self._page_updates(plan, group)
        arrays += [start.token_ids for start in plan.starts]
        parts = _send(arrays, self._caps, self._device)
        for table in self.page_tables:
            index, page_ids = next(parts), next(parts)
            if len(index):
                table.view(-1).index_copy_(0, index.long(), page_ids)
        for start, ids in zip(plan.starts, parts):
            self.tokens[start.row, : len(start.token_ids)].copy_(ids)

    def apply(self, plan: StepPlan) -> DeviceStep:
        """Bring the rows up to date with `plan` and build its inputs, without waiting."""
        self.enter(plan)
        step = HostStep.of(plan)
        planned = [self.plan_parts(g, *step.by_sequence).ravel() for g in range(len(self.groups))]
        arrays = [*step.by_sequence, *step.by_token, *step.by_sample, *planned]
        query_starts, rows, seq_lens, token_rows, token_lens, *sent = _send(
            arrays, self._caps, self._device
        )
        sample_tokens, sample_rows, sample_lens, *parts = sent
        # Each its own, so that all are aligned.
        made = [torch.empty_like(token_rows, dtype=torch.int64) for _ in (0, 1, *self.groups)]
        token_ids, positions, *slots = made
        no_pages = torch.full_like(token_rows, -1)
        for table, own in zip(self.page_tables, slots):
            self.stage(table, token_rows, token_lens, no_pages, token_ids, positions, own)
        _, _, host_seq_lens = step.by_sequence
        groups = [
            AttentionBatch(
                query_starts=query_starts,
                seq_lens=seq_lens,
                rows=rows,
                page_table=table,
                slots=own,
                page_size=self.page_size,
                host_query_lens=step.query_lens,
                host_seq_lens=host_seq_lens,
                max_query_len=int(step.query_lens.max(initial=0)),
                max_seq_len=int(host_seq_lens.max(initial=0)),
                parts=part.view(-1, COLUMNS) if self._by_parts else None,
                arrivals=arrivals,
            )
            for table, own, part, arrivals in zip(self.page_tables, slots, parts, self.arrivals)
        ]
        return DeviceStep(
            inputs=StepInputs(token_ids, positions, tuple(groups)),
            sample_rows=step.sample_rows,
            sample_lines=step.sample_lines,
            sample_tokens=sample_tokens,
            sample_positions=sample_lens.long(),
            sample_rows_device=sample_rows,
        )

    def plan_parts(
        self,
        group: int,
        query_starts: np.ndarray,
        rows: np.ndarray,
        seq_lens: np.ndarray,
        seen: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> np.ndarray:
        """The parts of a KV group's single-query sequences, none if attention wants none. `seen` is
        what `seen_elsewhere` says of keys that they share."""
        if self._by_parts is None:
            return np.empty((0, COLUMNS), dtype=np.int32)
        of = self.groups[group]
        sequences = query_starts, rows, seq_lens
        return self._by_parts.plan(*sequences, of.window, _kv_heads(of), *(seen or (None, None)))

    def max_parts(self, group: int, num_sequences: int) -> int:
        """No plan of so many sequences has more parts."""
        if self._by_parts is None:
            return 0
        return self._by_parts.limit(num_sequences, _kv_heads(self.groups[group]))

    @property
    def may_share(self) -> bool:
        """Whether attention can take keys that sequences share once for all of them."""
        return self._by_parts is not None and [g.window for g in self.groups] == [None]

    def shared_splits(self, tiles: int) -> int:
        """Of so many tiles of shared keys, if they `may_share` any."""
        assert self._by_parts is not None
        return self._by_parts.splits(tiles, _kv_heads(self.groups[0]))

    def append(self, rows: Tensor, positions: Tensor, sampled: Tensor) -> None:
        """Write sampled ids [S] to their rows; a line at position 0 is padding. A failed line's
        -1 becomes 0, a valid id: the step after may already be on its way and reads it."""
        self._append(self.tokens, rows, positions, sampled)

    def _page_updates(self, plan: StepPlan, group: int) -> tuple[np.ndarray, np.ndarray]:
        """A group's new page ids and where they go in its flattened page table."""
        deltas = [d for d in plan.pages if d.group == group]
        starts = np.array([d.row * self.width + d.column for d in deltas], dtype=np.int64)
        lengths = np.array([len(d.page_ids) for d in deltas], dtype=np.int64)
        ends = np.cumsum(lengths)
        index = np.arange(int(lengths.sum())) + np.repeat(starts - (ends - lengths), lengths)
        page_ids = [page_id for d in deltas for page_id in d.page_ids]
        return index, np.array(page_ids, dtype=np.int32)


def _rounded(length: int) -> int:
    """A row's length in its table, a multiple of 16: Triton compiles a kernel anew for a stride
    that is none."""
    return -(-length // 16) * 16


def aligned_ranges(lengths: Sequence[int]) -> tuple[list[slice], int]:
    """Where int32 arrays of these lengths go in one buffer, and its size. Each begins at 16 bytes:
    Triton compiles a kernel anew for a pointer that does not."""
    places, end = [], 0
    for length in lengths:
        places.append(slice(end, end + length))
        end += -(-length // 4) * 4
    return places, end


def fill(into: np.ndarray, values: np.ndarray, padding: int) -> None:
    """Fill `into` [N] with `values` in a row, and then padding."""
    into[: values.size], into[values.size :] = values.ravel(), padding


def _kv_heads(group: KVGroup) -> int:
    return max(layer.num_kv_heads for layer in group.layers)


def _send(
    arrays: Sequence[Sequence[int] | np.ndarray], caps: DeviceCaps, device: torch.device
) -> Iterator[Tensor]:
    """Integers to the device in one copy: int32 views of one buffer there, in their order."""
    places, size = aligned_ranges([len(array) for array in arrays])
    host = pinned((size,), torch.int32, caps)
    into = host.numpy()
    for array, place in zip(arrays, places):
        into[place] = array
    sent = host.to(device, non_blocking=True)
    return (sent[place] for place in places)
