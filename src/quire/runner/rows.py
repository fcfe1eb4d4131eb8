"""Device rows: the persistent per-sequence state on the device, and a step's inputs from it.

A row holds a sequence's token ids and page tables for as long as it runs. Prefill, decode and
everything between gather their input ids from the same place, and sampled tokens are written
back to it on the device, so the next step never waits for the host.

One upload a step: every integer the host knows goes into one buffer, is copied once, and is
cut into views on the device. Runs in the worker; owns no policy.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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
class _Sequences:
    """A step's sequences, as `AttentionBatch` has them."""

    query_starts: Tensor
    seq_lens: Tensor
    rows: Tensor
    host_query_lens: np.ndarray
    host_seq_lens: np.ndarray


@dataclass(frozen=True, slots=True)
class DeviceStep:
    """A step on the device.

    Args:
        inputs: what the model takes.
        sample_rows: [S'] host int32, rows that sample in this step.
        sample_lines: plan index of each of them.
        sample_tokens: [S'] int64, index in [0, T) of each one's last computed token; None where
            every token of the step is one.
        sample_positions: [S'] int64, the position its next token will take.
        sample_rows_device: [S'] int32.
    """

    inputs: StepInputs
    sample_rows: np.ndarray
    sample_lines: list[int]
    sample_tokens: Tensor | None
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
        self._stage, self._append = ops.stage, ops.append
        self._caps = caps
        self._device = torch.device(caps.torch_device)
        self.arrivals = [
            torch.zeros(num_rows, _kv_heads(group), dtype=torch.int32, device=self._device)
            for group in groups
        ]
        self.tokens = torch.zeros(num_rows, self._stride, dtype=torch.int32, device=self._device)
        self.page_tables = [
            torch.zeros(num_rows, self.width, dtype=torch.int32, device=self._device)
            for _ in groups
        ]

    def apply(self, plan: StepPlan) -> DeviceStep:
        """Bring the rows up to date with `plan` and build its inputs. One upload, no waiting."""
        if is_decode(plan, self.page_size):
            return self._apply_decode(plan)
        query_lens = np.array(plan.query_lens, dtype=np.int32)
        computed = np.array(plan.num_computed, dtype=np.int32)
        rows = np.array(plan.rows, dtype=np.int32)
        seq_lens = computed + query_lens
        query_starts = np.zeros(len(rows) + 1, dtype=np.int32)
        np.cumsum(query_lens, out=query_starts[1:])
        num_tokens = int(query_starts[-1])
        # Position of a token: its index in the step, shifted by where its sequence stands.
        shift = np.repeat(computed - query_starts[:-1], query_lens)
        positions = np.arange(num_tokens) + shift
        token_rows = np.repeat(rows.astype(np.int64), query_lens)
        columns, offsets = np.divmod(positions, self.page_size)
        sample_lines = [i for i, samples in enumerate(plan.samples) if samples]
        lines = np.array(sample_lines, dtype=np.int64)

        wide: list[np.ndarray] = [
            positions,
            token_rows * self._stride + positions,  # where the token is in `tokens`
            token_rows * self.width + columns,  # where its page is in a page table
            offsets,
            query_starts[1:][lines] - 1,
            seq_lens[lines],
        ]
        narrow: list[np.ndarray] = [query_starts, seq_lens, rows, rows[lines]]
        for group in range(len(self.groups)):
            page_index, page_ids = self._page_updates(plan, group)
            wide.append(page_index)
            narrow += page_ids, self.plan_parts(group, query_starts, rows, seq_lens).ravel()
        narrow += (np.asarray(start.token_ids, dtype=np.int32) for start in plan.starts)

        wide_d, narrow_d = _upload(wide, narrow, self._caps, self._device)
        positions_d, in_tokens, in_table, offsets_d = wide_d[:4]
        sample_tokens_d, sample_positions_d, *new_page_index = wide_d[4:]
        query_starts_d, seq_lens_d, rows_d, sample_rows_d, *others = narrow_d
        slots = []
        for table, index, page_ids_d in zip(self.page_tables, new_page_index, others[::2]):
            pages = table.view(-1)
            if len(index):
                pages.index_copy_(0, index, page_ids_d)
            slots.append(pages[in_table].long().mul_(self.page_size).add_(offsets_d))
        attention_parts = [parts.view(-1, COLUMNS) for parts in others[1 : 2 * len(slots) : 2]]
        for start, ids in zip(plan.starts, others[2 * len(slots) :]):
            self.tokens[start.row, : len(start.token_ids)].copy_(ids)
        token_ids = self.tokens.view(-1)[in_tokens]
        step = _Sequences(query_starts_d, seq_lens_d, rows_d, query_lens, seq_lens)
        return DeviceStep(
            inputs=StepInputs(
                token_ids.long(), positions_d, self._batches(step, slots, attention_parts)
            ),
            sample_rows=rows[lines],
            sample_lines=sample_lines,
            sample_tokens=sample_tokens_d,
            sample_positions=sample_positions_d,
            sample_rows_device=sample_rows_d,
        )

    def _apply_decode(self, plan: StepPlan) -> DeviceStep:
        """`apply` for what most steps are: one query of each sequence, in few operations."""
        count, num_groups = len(plan.rows), len(self.groups)
        rows = np.array(plan.rows, dtype=np.int32)
        seq_lens = np.array(plan.num_computed, dtype=np.int32) + np.int32(1)
        query_starts = np.arange(count + 1, dtype=np.int32)
        narrow = [query_starts, seq_lens, rows, *new_pages_of(plan, num_groups)]
        for group in range(num_groups):
            narrow.append(self.plan_parts(group, query_starts, rows, seq_lens).ravel())
        (positions_after,), narrow_d = _upload([seq_lens], narrow, self._caps, self._device)
        query_starts_d, seq_lens_d, rows_d, *others = narrow_d
        made = torch.empty(2 + num_groups, count, dtype=torch.int64, device=self._device)
        token_ids, positions, *slots = made.unbind(0)
        for table, new_pages, group_slots in zip(self.page_tables, others, slots):
            self.stage(table, rows_d, seq_lens_d, new_pages, token_ids, positions, group_slots)
        parts = [part.view(-1, COLUMNS) for part in others[num_groups:]]
        step = _Sequences(
            query_starts_d, seq_lens_d, rows_d, np.ones(count, dtype=np.int32), seq_lens
        )
        return DeviceStep(
            inputs=StepInputs(token_ids, positions, self._batches(step, slots, parts)),
            sample_rows=rows,
            sample_lines=list(range(count)),
            sample_tokens=None,
            sample_positions=positions_after,
            sample_rows_device=rows_d,
        )

    def _batches(
        self, step: "_Sequences", slots: Sequence[Tensor], parts: Sequence[Tensor]
    ) -> tuple[AttentionBatch, ...]:
        """Each KV group's view of the step."""
        max_query_len = int(step.host_query_lens.max(initial=0))
        max_seq_len = int(step.host_seq_lens.max(initial=0))
        return tuple(
            AttentionBatch(
                query_starts=step.query_starts,
                seq_lens=step.seq_lens,
                rows=step.rows,
                page_table=table,
                slots=slots[group],
                page_size=self.page_size,
                host_query_lens=step.host_query_lens,
                host_seq_lens=step.host_seq_lens,
                max_query_len=max_query_len,
                max_seq_len=max_seq_len,
                parts=parts[group] if self._by_parts else None,
                arrivals=self.arrivals[group],
            )
            for group, table in enumerate(self.page_tables)
        )

    def plan_parts(
        self, group: int, query_starts: np.ndarray, rows: np.ndarray, seq_lens: np.ndarray
    ) -> np.ndarray:
        """The parts of a KV group's single-query sequences, none if attention wants none."""
        if self._by_parts is None:
            return np.empty((0, COLUMNS), dtype=np.int32)
        of = self.groups[group]
        return self._by_parts.plan(query_starts, rows, seq_lens, of.window, _kv_heads(of))

    def max_parts(self, group: int, num_sequences: int) -> int:
        """No plan of so many sequences has more parts."""
        if self._by_parts is None:
            return 0
        return self._by_parts.limit(num_sequences, _kv_heads(self.groups[group]))

    def stage(
        self,
        page_table: Tensor,
        rows: Tensor,
        seq_lens: Tensor,
        new_pages: Tensor,
        token_ids: Tensor,
        positions: Tensor,
        slots: Tensor,
    ) -> None:
        """The inputs of single-query sequences, all on the device: see `kernels.stage`."""
        self._stage(
            self.tokens,
            page_table,
            rows,
            seq_lens,
            new_pages,
            token_ids,
            positions,
            slots,
            self.page_size,
        )

    def append(self, rows: Tensor, positions: Tensor, sampled: Tensor) -> None:
        """Write sampled ids [S] to their rows; a line at position 0 is padding. A failed line's
        -1 becomes 0, a valid id: the step after may already be on its way and reads it."""
        self._append(self.tokens, rows, positions, sampled)

    def _page_updates(self, plan: StepPlan, group: int) -> tuple[np.ndarray, np.ndarray]:
        """A group's new page ids and where they go in its flattened page table."""
        deltas = [d for d in plan.pages if d.group == group]
        if not deltas:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int32)
        starts = np.array([d.row * self.width + d.column for d in deltas], dtype=np.int64)
        lengths = np.array([len(d.page_ids) for d in deltas], dtype=np.int64)
        ends = np.cumsum(lengths)
        index = np.arange(int(lengths.sum())) + np.repeat(starts - (ends - lengths), lengths)
        page_ids = [page_id for d in deltas for page_id in d.page_ids]
        return index, np.array(page_ids, dtype=np.int32)


def is_decode(plan: StepPlan, page_size: int) -> bool:
    """Whether every sequence computes one known token and samples, with at most the page of
    that token new."""
    if plan.starts or max(plan.query_lens) > 1 or not all(plan.samples):
        return False
    if not plan.pages:
        return True
    column = {row: at // page_size for row, at in zip(plan.rows, plan.num_computed)}
    return all(
        len(delta.page_ids) == 1 and column.get(delta.row) == delta.column for delta in plan.pages
    )


def new_pages_of(plan: StepPlan, num_groups: int) -> np.ndarray:
    """[groups, S] int32: the new page of each sequence of a decode step, -1 for none."""
    entered = np.full((num_groups, len(plan.rows)), -1, dtype=np.int32)
    lines = {row: line for line, row in enumerate(plan.rows)} if plan.pages else {}
    for delta in plan.pages:
        entered[delta.group, lines[delta.row]] = delta.page_ids[0]
    return entered


def _rounded(length: int) -> int:
    """A row's length in its table, a multiple of 16: Triton compiles a kernel anew for a stride
    that is none."""
    return -(-length // 16) * 16


def aligned_ranges(lengths: Sequence[int], itemsize: int = 4) -> tuple[list[slice], int]:
    """Where arrays of these lengths go in one buffer, and its size, all in elements. Each begins at
    16 bytes: Triton compiles a kernel anew for a pointer that does not."""
    unit = 16 // itemsize
    places, end = [], 0
    for length in lengths:
        places.append(slice(end, end + length))
        end += -(-length // unit) * unit
    return places, end


def _kv_heads(group: KVGroup) -> int:
    return max(layer.num_kv_heads for layer in group.layers)


def _upload(
    wide: Sequence[np.ndarray], narrow: Sequence[np.ndarray], caps: DeviceCaps, device: torch.device
) -> tuple[list[Tensor], list[Tensor]]:
    """Arrays as int64 and arrays as int32 on the device, views of one buffer sent in one copy."""
    wide_places, wide_size = aligned_ranges([len(array) for array in wide], 8)
    narrow_places, narrow_size = aligned_ranges([len(array) for array in narrow])
    split = 8 * wide_size
    host = pinned((split + 4 * narrow_size,), torch.uint8, caps)
    into = host.numpy()
    wide_into, narrow_into = into[:split].view(np.int64), into[split:].view(np.int32)
    for array, place in zip(wide, wide_places):
        wide_into[place] = array
    for array, place in zip(narrow, narrow_places):
        narrow_into[place] = array
    sent = host.to(device, non_blocking=True)
    wide_sent, narrow_sent = sent[:split].view(torch.int64), sent[split:].view(torch.int32)
    return [wide_sent[p] for p in wide_places], [narrow_sent[p] for p in narrow_places]
