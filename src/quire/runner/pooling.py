"""Pooling: the hidden states of a prompt, which may come in chunks, into one vector on the host.

A row that pools samples nothing. What it needs of earlier chunks stays on the device, in fp32,
one vector a row. Nothing here waits for the device; truncating and normalising happen on the
host, when the result is read.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from quire.core.plan import RowStart, StepPlan
from quire.core.pooling_params import PoolingParams

NOT_A_NUMBER = (
    "the model's hidden states are not numbers: "
    "try dtype=bfloat16 or float32, or check the checkpoint"
)


@dataclass(frozen=True, slots=True)
class PooledLines:
    """The prompts that a step completes.

    Args:
        lines: plan index of each.
        params: of each.
        vectors: [n, E] float32 on the host, valid once the step's event is reached.
    """

    lines: list[int]
    params: list[PoolingParams]
    vectors: Tensor

    def results(self) -> Iterator[tuple[int, list[float] | None]]:
        """(plan index, its vector; None if it is not all numbers)."""
        for line, params, vector in zip(self.lines, self.params, self.vectors):
            vector = vector[: params.dimensions]
            if params.normalize:
                vector = torch.nn.functional.normalize(vector, dim=0)
            yield line, vector.tolist() if bool(vector.isfinite().all()) else None


class Pooler:
    """What has been seen of each row's prompt."""

    def __init__(self) -> None:
        self._rows: dict[int, tuple[PoolingParams, int]] = {}  # with the prompt's length
        self._partial: dict[int, Tensor] = {}  # row -> [E] fp32: a sum, or the first token's

    def start(self, start: RowStart) -> None:
        """A sequence takes a row; one that samples is none of ours."""
        if start.pooling is not None:
            self._rows[start.row] = (start.pooling, start.num_prompt_tokens)

    def release(self, row: int) -> None:
        self._rows.pop(row, None)
        self._partial.pop(row, None)

    def pool(self, plan: StepPlan, hidden: Tensor) -> PooledLines | None:
        """Take in a step's hidden states [T, E]; the vectors of the prompts it completes."""
        if not self._rows:
            return None
        lines: list[int] = []
        params: list[PoolingParams] = []
        vectors: list[Tensor] = []
        first = 0  # index in the step of the row's first token
        for line, (row, length) in enumerate(zip(plan.rows, plan.query_lens)):
            if row in self._rows:
                begin = plan.num_computed[line]
                wanted, num_prompt = self._rows[row]
                vector = self._absorb(row, wanted, begin, hidden[first : first + length])
                if begin + length == num_prompt:
                    lines.append(line)
                    params.append(wanted)
                    vectors.append(vector / num_prompt if wanted.pooling == "mean" else vector)
            first += length
        if not lines:
            return None
        return PooledLines(lines, params, torch.stack(vectors).to("cpu", non_blocking=True))

    def _absorb(self, row: int, params: PoolingParams, begin: int, chunk: Tensor) -> Tensor:
        """The vector so far [E], of a chunk of hidden states [n, E] that starts at `begin`."""
        if not params.needs_every_token:
            return chunk[-1].float()
        if begin == 0:  # a new prompt, or one computed again after a preemption
            seen = chunk[0].float() if params.pooling == "cls" else chunk.float().sum(0)
            self._partial[row] = seen
        elif params.pooling == "mean":
            self._partial[row] += chunk.float().sum(0)
        return self._partial[row]
