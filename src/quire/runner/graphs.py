"""Whole decode steps as CUDA graphs: inputs, forward, logits and sampling in one launch.

A decode step of a large model is some hundreds of kernels that each run a few microseconds;
launching them one by one takes the host longer than the device. A graph is captured for a
*bucket*, a number of lines that smaller batches are padded to (`buckets`), by a thread beside the
engine (`capturing`); nothing waits for it. All graphs share one memory pool and leave their logits
in one place: they never run at the same time.

A step uploads one small array and replays: rows, lengths, new pages and the parts of attention
are read from it on the device, so a capture fixes none of them. Lines of length 0 are padding:
nothing of theirs is read or written but their own line of the output. Anything that is not a
pure decode step is not for these graphs (see `prompt_graphs`). Steps of sequences that begin in the
same pages have graphs of their own.
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from quire.core.plan import StepPlan
from quire.kernels.attention import shared
from quire.kernels.attention.parts import COLUMNS
from quire.kernels.attention.shared import PrefixGroup
from quire.kernels.batch import AttentionBatch, LayerCache, SharedPrefixes, StepInputs
from quire.platform.caps import DeviceCaps
from quire.platform.streams import pinned
from quire.runner.buckets import CapturePolicy, buckets, ladder
from quire.runner.decode import DecodeOutput, Undrawn, is_decode, new_pages_of
from quire.runner.graph_pool import BucketGraphs, Captured, GraphPool
from quire.runner.model import Model
from quire.runner.prefixes import Prefixes
from quire.runner.rows import DeviceRows, aligned_ranges, fill
from quire.sampling.rows import DRAW_DTYPES, DrawNumbers
from quire.sampling.sampler import Sampler

# A step's groups of shared prefixes may leave so many tiles partly empty.
MORE_TILES = 4
NUMBERS = len(DRAW_DTYPES)


class DecodeGraphs:
    """Graphs by bucket for one model, its cache and its rows."""

    def __init__(
        self, step: "WholeStep", rows: DeviceRows, pool: GraphPool, caps: DeviceCaps
    ) -> None:
        self._step, self._rows, self._caps = step, rows, caps
        max_rows = rows.tokens.shape[0]
        sizes = buckets(max_rows, 8, (1, 2, 4))
        self.graphs = BucketGraphs(
            pool,
            CapturePolicy(sizes, ladder(sizes)),
            lambda bucket: Lines(rows, bucket, caps),
            step.run,
        )
        self.shared_graphs = BucketGraphs(  # where prefixes are shared
            pool,
            CapturePolicy(sizes, ()),
            lambda bucket: Lines(rows, bucket, caps, shares=True),
            step.run,
        )
        self._prefixes = None
        if rows.may_share:
            self._prefixes = Prefixes(max_rows, rows.width, rows.page_size)

    def run(self, plan: StepPlan) -> DecodeOutput | None:
        """Queue a pure decode step on the current stream; None to run it without a graph. To be
        told of every step."""
        if self._prefixes is not None:
            self._prefixes.update(plan)
        if not plan.rows or not is_decode(plan, self._rows.page_size):
            return None
        count = len(plan.rows)
        groups: Sequence[PrefixGroup] = ()
        if self._prefixes is not None:
            groups = self._prefixes.groups(plan.rows, plan.num_computed)
        captured = self.shared_graphs.choose(count) if groups else None
        captured = captured or self.graphs.choose(count)
        if captured is None:
            return None
        lines = captured.inputs
        numbers = self._step.sampler.host_numbers(plan.rows)
        host_rows = lines.upload(plan, numbers, self._caps, groups)
        return self._step.replay(captured, host_rows)


class StepLines(Protocol):
    """The static inputs of a graph of a whole step. `rows` and `seq_lens` int32 and `numbers` are
    of the sequences that sample, [n] each; one of length 0 is padding."""

    inputs: StepInputs
    rows: Tensor
    seq_lens: Tensor
    numbers: DrawNumbers
    wanted: Tensor | None  # [n] int32, their last tokens; None for all tokens

    def stage(self, rows: DeviceRows) -> None:
        """Fill them on the device from the uploaded integers."""


Given = TypeVar("Given", bound=StepLines)


class WholeStep:
    """What is captured: from the uploaded integers to the tokens in their rows."""

    def __init__(
        self, model: Model, caches: list[LayerCache], rows: DeviceRows, sampler: Sampler
    ) -> None:
        self.model, self._caches, self._rows, self.sampler = model, caches, rows, sampler
        shape = rows.tokens.shape[0], sampler.vocab_size
        self._logits = torch.empty(  # of the last replay
            shape, dtype=model.logits_dtype, device=rows.tokens.device
        )
        self.logits_bytes = self._logits.nbytes

    def run(self, lines: StepLines) -> Tensor:
        """Token ids [n]."""
        lines.stage(self._rows)
        logits = self.model.logits(self.model.forward(lines.inputs, self._caches, lines.wanted))
        token_ids = self.sampler.draw(logits, lines.numbers)
        self._rows.append(lines.rows, lines.seq_lens, token_ids)
        self._logits[: len(logits)].copy_(logits)
        return token_ids

    def replay(self, captured: Captured[Given], host_rows: np.ndarray) -> DecodeOutput:
        """Queue the step whose integers were uploaded last; `host_rows` sample in it."""
        count, lines = len(host_rows), captured.inputs
        captured.graph.replay()
        again = None
        if not self.sampler.draws_all(host_rows.tolist()):
            positions, rows = lines.numbers.positions[:count], lines.rows[:count]
            again = Undrawn(self._logits[:count], positions, rows, host_rows)
        return DecodeOutput(captured.output[:count], again)


class Lines:
    """The static inputs of a bucket's graph, none of whose lines is real at first.

    Args:
        shares: whether keys that sequences share are seen once for all of them.
    """

    wanted: Tensor | None = None  # all

    def __init__(
        self, rows: DeviceRows, bucket: int, caps: DeviceCaps, *, shares: bool = False
    ) -> None:
        device = torch.device(caps.torch_device)
        self._device_rows = rows
        self._parts = [rows.max_parts(group, bucket) for group in range(len(rows.groups))]
        num_tiles = -(-bucket // shared.MEMBERS) + MORE_TILES if shares else 0
        lengths = [bucket * dtype.itemsize // 4 for dtype in DRAW_DTYPES]
        lengths += [shared.COLUMNS * num_tiles, bucket, bucket]
        lengths += [n for w in self._parts for n in (bucket, COLUMNS * w)]
        self._places, size = aligned_ranges(lengths)
        self._ints = torch.zeros(size, dtype=torch.int32, device=device)
        views = [self._ints[place] for place in self._places]
        *drawn, tiles, self.rows, self.seq_lens = views[: NUMBERS + 3]
        by_group = views[NUMBERS + 3 :]
        self.numbers = DrawNumbers(*map(Tensor.view, drawn, DRAW_DTYPES))
        self._new_pages, parts = by_group[::2], by_group[1::2]
        for part in (tiles, *parts):
            part.fill_(-1)
        self._shared = None
        if shares:
            splits = rows.shared_splits(num_tiles)
            num_slots = self._parts[0] + bucket * splits
            self._shared = SharedPrefixes(tiles.view(-1, shared.COLUMNS), splits, num_slots)
        width = bucket + bucket % 2  # aligned, see `aligned_ranges`
        made = torch.zeros(2, width, dtype=torch.int64, device=device)
        token_ids, positions = made[:, :bucket].unbind(0)
        query_starts = torch.arange(bucket + 1, dtype=torch.int32, device=device)
        groups = tuple(
            AttentionBatch(
                query_starts=query_starts,
                seq_lens=self.seq_lens,
                rows=self.rows,
                page_table=table,
                slots=torch.zeros_like(positions),
                page_size=rows.page_size,
                host_query_lens=np.ones(bucket, dtype=np.int32),
                host_seq_lens=np.zeros(bucket, dtype=np.int32),
                max_query_len=1,
                max_seq_len=rows.max_len,
                parts=part.view(-1, COLUMNS),
                arrivals=arrivals,
                shared=self._shared,
            )
            for table, part, arrivals in zip(rows.page_tables, parts, rows.arrivals, strict=True)
        )
        self.inputs = StepInputs(token_ids, positions, groups)

    def upload(
        self,
        plan: StepPlan,
        numbers: Sequence[np.ndarray],
        caps: DeviceCaps,
        groups: Sequence[PrefixGroup] = (),
    ) -> np.ndarray:
        """Send a decode step's integers in one copy; returns its rows [S] int32. `numbers` are
        `RowTable.host_numbers` of these; `groups` share prefixes, the most of one first."""
        host = pinned(tuple(self._ints.shape), torch.int32, caps)
        into = [host.numpy()[place] for place in self._places]
        count = len(plan.rows)
        *drawn, tiles, rows, seq_lens = into[: NUMBERS + 3]
        by_group = into[NUMBERS + 3 :]
        rows[:count], rows[count:] = plan.rows, 0
        seq_lens[:count], seq_lens[count:] = plan.num_computed, 0
        seq_lens[:count] += 1
        positions = seq_lens[:count].astype(np.int64)
        for place, values in zip(drawn, (*numbers, positions), strict=True):
            fill(place, values.view(np.int32), 0)  # padding is greedy
        for new_pages, entered in zip(by_group[::2], new_pages_of(plan, len(self._parts))):
            new_pages[:count], new_pages[count:] = entered, -1
        starts = np.arange(count + 1, dtype=np.int32)
        seen = None
        if self._shared is not None:
            groups = _that_fit(groups, len(self._shared.tiles))
            seen = shared.seen_elsewhere(groups, count, self._shared.splits)
        for group, parts in enumerate(by_group[1::2]):
            sequences = rows[:count], seq_lens[:count]
            planned = self._device_rows.plan_parts(group, starts, *sequences, seen)
            fill(parts, planned, -1)
            if self._shared is not None:  # of the only group
                line_tiles = shared.plan_tiles(groups, *sequences, planned, self._shared.splits)
                fill(tiles, line_tiles, -1)
        self._ints.copy_(host, non_blocking=True)
        return rows[:count].copy()

    def stage(self, rows: DeviceRows) -> None:
        """Fill the inputs on the device from the uploaded integers."""
        for group, new_pages in zip(self.inputs.groups, self._new_pages, strict=True):
            rows.stage(
                group.page_table,
                self.rows,
                self.seq_lens,
                new_pages,
                self.inputs.token_ids,
                self.inputs.positions,
                group.slots,
            )


def _that_fit(groups: Sequence[PrefixGroup], tiles: int) -> Sequence[PrefixGroup]:
    """The first ones, of no more than so many tiles."""
    while shared.num_tiles(groups) > tiles:
        groups = groups[:-1]
    return groups
