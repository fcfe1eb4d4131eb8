"""Steps that only decode: which those are, and on a CPU all of one in a single call."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from quire.core.plan import StepPlan
from quire.kernels.batch import LayerCache
from quire.kernels.table import DecodeCall, Ops, RowTensors
from quire.runner.model import Model
from quire.runner.rows import DeviceRows
from quire.sampling.sampler import Sampler


@dataclass(frozen=True, slots=True)
class Undrawn:
    """The logits [S, V] of a step whose sampling takes more than temperature and filters, valid
    until the next step; the positions [S] int64 of its tokens; its rows [S] int32, there and on the
    host."""

    logits: Tensor
    positions: Tensor
    rows: Tensor
    host_rows: np.ndarray


@dataclass(frozen=True, slots=True)
class DecodeOutput:
    """Token ids [S] int64 drawn by temperature and filters and appended to their rows; to be drawn
    again from what is `undrawn`. On a GPU they are valid until the next step."""

    token_ids: Tensor
    undrawn: Undrawn | None


class DecodeCalls:
    """The op `decode` for a runner's plans."""

    def __init__(self, call: DecodeCall, sampler: Sampler, rows: DeviceRows) -> None:
        self._call, self._sampler, self._rows = call, sampler, rows

    @staticmethod
    def of(
        model: Model, caches: Sequence[LayerCache], rows: DeviceRows, sampler: Sampler, ops: Ops
    ) -> "DecodeCalls | None":
        """None where the device has no such op, or not for such a model."""
        parts = None if ops.decode is None else model.parts()
        if ops.decode is None or parts is None:
            return None
        n = sampler.rows.numbers()
        numbers = n.temperature, n.top_p, n.min_p, n.seed, n.top_k
        tensors = RowTensors(rows.tokens, rows.page_tables, rows.page_size, *numbers)
        call = ops.decode(parts, caches, tensors, rows.tokens.shape[0])
        return None if call is None else DecodeCalls(call, sampler, rows)

    def run(self, plan: StepPlan) -> DecodeOutput | None:
        """A pure decode step; None for any other."""
        if not plan.rows or not is_decode(plan, self._rows.page_size):
            return None
        call, count = self._call, len(plan.rows)
        call.step[:, :count] = plan.rows, plan.num_computed
        if plan.pages:
            call.new_pages[:, :count] = new_pages_of(plan, len(call.new_pages))
        self._sampler.rows.refresh()
        token_ids = call.run(count)
        if self._sampler.draws_all(plan.rows):
            return DecodeOutput(token_ids, None)
        rows = np.array(plan.rows, dtype=np.int32)
        positions = call.positions[:count]
        again = Undrawn(call.logits[:count], positions, torch.from_numpy(rows), rows)
        return DecodeOutput(token_ids, again)


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


def new_pages_of(plan: StepPlan, num_groups: int) -> list[list[int]]:
    """For each KV group the new page of each sequence of a decode step, -1 for none."""
    entered = [[-1] * len(plan.rows) for _ in range(num_groups)]
    lines = {row: line for line, row in enumerate(plan.rows)} if plan.pages else {}
    for delta in plan.pages:
        entered[delta.group][lines[delta.row]] = delta.page_ids[0]
    return entered
