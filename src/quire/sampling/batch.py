"""A step's lines put together: parameters gathered by row, constraints as flat index tensors.

Built when the rows of a step or the parameters of a row change, and used unchanged by every
step of a steady batch, which therefore uploads nothing. Which features are in use is known
from the host's mirrors; the device is never asked.
"""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from quire.sampling.bias import BannedSequences, SparseBias
from quire.sampling.penalties import Penalties
from quire.sampling.rows import Feature, RowExtras, RowTable
from quire.sampling.upload import upload


@dataclass(frozen=True, slots=True)
class LogprobLines:
    """The lines that asked for log-probabilities; `index` is None where all did."""

    lines: list[int]
    index: Tensor | None
    num_top: tuple[int, ...]

    def of(self, values: Tensor) -> Tensor:
        """Theirs, of every line's values [S, ...]."""
        return values if self.index is None else values.index_select(0, self.index)


class SamplingBatch:
    """The S lines of a step, `rows` [S]. What is None is not in use."""

    def __init__(self, table: RowTable, rows: np.ndarray) -> None:
        table.refresh()
        self.rows = rows.copy()
        self._table = table
        self._features = table.features[rows]
        device_rows = upload(rows.astype(np.int64), table.device)
        self.numbers = table.gather(device_rows)
        self.masked = self._masked(device_rows)
        self.banned_sequences = self._banned_sequences()
        self.bias = self._bias()
        self.processors = [(n, row, x.processors) for n, row, x in self._extras(Feature.PROCESSORS)]
        self.penalties = self._penalties(device_rows)
        self.logprobs = self._logprobs()

    @property
    def changes_logits(self) -> bool:
        """Whether anything comes between the model's logits and the draw."""
        steps = (self.masked, self.banned_sequences, self.bias, self.processors, self.penalties)
        return any(steps)

    def _masked(self, device_rows: Tensor) -> tuple[Tensor, Tensor] | None:
        """The lines [n] int64 that have a token mask, and their rows."""
        lines = self._using(Feature.MASK)
        if not lines.size:
            return None
        index = upload(lines, self._table.device)
        return index, device_rows.index_select(0, index)

    def _banned_sequences(self) -> BannedSequences | None:
        words = [
            (line, row, extras.num_prompt_tokens, ids)
            for line, row, extras in self._extras(Feature.BANNED_SEQUENCES)
            for ids in extras.banned_sequences
        ]
        if not words:
            return None
        return BannedSequences(words, self._table.vocab_size, self._table.device)

    def _bias(self) -> SparseBias | None:
        found = [(line, extras.additions) for line, _, extras in self._extras(Feature.BIAS)]
        if not found:
            return None
        return SparseBias(
            lines=np.concatenate([np.full(len(a.tokens), line) for line, a in found]),
            tokens=np.concatenate([a.tokens for _, a in found]),
            values=np.concatenate([a.values for _, a in found]),
            until=np.concatenate([a.until for _, a in found]),
            vocab_size=self._table.vocab_size,
            device=self._table.device,
        )

    def _penalties(self, device_rows: Tensor) -> Penalties | None:
        lines = self._using(Feature.PENALTIES)
        if not lines.size:
            return None
        index = upload(lines, self._table.device)
        counts = self._using(Feature.COUNTS).size > 0
        return Penalties(index, device_rows.index_select(0, index), self.numbers, counts)

    def _logprobs(self) -> LogprobLines | None:
        lines = self._using(Feature.LOGPROBS)
        if not lines.size:
            return None
        num_top = tuple(e.num_logprobs for _, _, e in self._extras(Feature.LOGPROBS))
        everyone = lines.size == self.rows.size
        index = None if everyone else upload(lines, self._table.device)
        return LogprobLines(lines.tolist(), index, num_top)

    def _using(self, feature: Feature) -> np.ndarray:
        """The lines [n] int64 whose rows use `feature`."""
        return np.flatnonzero(self._features & int(feature)).astype(np.int64)

    def _extras(self, feature: Feature) -> list[tuple[int, int, RowExtras]]:
        """(line, row, extras) of the lines that use `feature`."""
        found = []
        for line in self._using(feature).tolist():
            row = int(self.rows[line])
            extras = self._table.extras[row]
            assert extras is not None, f"row {row} was released"
            found.append((line, row, extras))
        return found
