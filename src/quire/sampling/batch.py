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
from quire.sampling.processors import Processor
from quire.sampling.rows import Feature, RowExtras, RowNumbers, RowTable
from quire.sampling.upload import upload


@dataclass(frozen=True, slots=True)
class MaskedLines:
    """The n lines that have a token mask, and their rows: [n] int64."""

    lines: Tensor
    rows: Tensor


@dataclass(frozen=True, slots=True)
class LogprobLines:
    """The lines that asked for log-probabilities; `index` is None where all did."""

    lines: list[int]
    index: Tensor | None
    num_top: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SamplingBatch:
    """The S lines of a step. What is None is not in use."""

    rows: np.ndarray
    numbers: RowNumbers
    masked: MaskedLines | None
    banned_sequences: BannedSequences | None
    bias: SparseBias | None
    processors: tuple[tuple[int, int, tuple[Processor, ...]], ...]  # (line, row, theirs)
    penalties: Penalties | None
    logprobs: LogprobLines | None

    @property
    def changes_logits(self) -> bool:
        """Whether anything comes between the model's logits and the draw."""
        steps = (self.masked, self.banned_sequences, self.bias, self.processors, self.penalties)
        return any(steps)

    @staticmethod
    def build(table: RowTable, rows: np.ndarray) -> "SamplingBatch":
        """Put the lines of `rows` [S] together."""
        table.refresh()
        device_rows = upload(rows.astype(np.int64), table.device)
        numbers = table.gather(device_rows)
        lines = _Lines(table, rows, device_rows)
        return SamplingBatch(
            rows=rows.copy(),
            numbers=numbers,
            masked=lines.masked(),
            banned_sequences=lines.banned_sequences(),
            bias=lines.bias(),
            processors=lines.processors(),
            penalties=lines.penalties(numbers),
            logprobs=lines.logprobs(),
        )


class _Lines:
    """Finds which lines use a feature and builds its tensors."""

    def __init__(self, table: RowTable, rows: np.ndarray, device_rows: Tensor) -> None:
        self._table = table
        self._rows = rows
        self._device_rows = device_rows
        self._features = table.features[rows]

    def masked(self) -> MaskedLines | None:
        lines = self._using(Feature.MASK)
        if not lines.size:
            return None
        index = upload(lines, self._table.device)
        return MaskedLines(index, self._device_rows.index_select(0, index))

    def banned_sequences(self) -> BannedSequences | None:
        words = [
            (line, row, extras.num_prompt_tokens, ids)
            for line, row, extras in self._extras(Feature.BANNED_SEQUENCES)
            for ids in extras.banned_sequences
        ]
        if not words:
            return None
        return BannedSequences.build(words, self._table.vocab_size, self._table.device)

    def bias(self) -> SparseBias | None:
        found = [(line, extras.additions) for line, _, extras in self._extras(Feature.BIAS)]
        if not found:
            return None
        return SparseBias.build(
            lines=np.concatenate([np.full(len(a.tokens), line) for line, a in found]),
            tokens=np.concatenate([a.tokens for _, a in found]),
            values=np.concatenate([a.values for _, a in found]),
            until=np.concatenate([a.until for _, a in found]),
            vocab_size=self._table.vocab_size,
            device=self._table.device,
        )

    def processors(self) -> tuple[tuple[int, int, tuple[Processor, ...]], ...]:
        return tuple(
            (line, row, extras.processors) for line, row, extras in self._extras(Feature.PROCESSORS)
        )

    def penalties(self, numbers: RowNumbers) -> Penalties | None:
        lines = self._using(Feature.PENALTIES)
        if not lines.size:
            return None
        index = upload(lines, self._table.device)
        return Penalties(
            lines=index,
            rows=self._device_rows.index_select(0, index),
            num_prompt_tokens=numbers.num_prompt_tokens.index_select(0, index),
            repetition=numbers.repetition.index_select(0, index),
            frequency=numbers.frequency.index_select(0, index),
            presence=numbers.presence.index_select(0, index),
            count=self._using(Feature.COUNTS).size > 0,
        )

    def logprobs(self) -> LogprobLines | None:
        lines = self._using(Feature.LOGPROBS)
        if not lines.size:
            return None
        num_top = tuple(e.num_logprobs for _, _, e in self._extras(Feature.LOGPROBS))
        everyone = lines.size == self._rows.size
        index = None if everyone else upload(lines, self._table.device)
        return LogprobLines(lines.tolist(), index, num_top)

    def _using(self, feature: Feature) -> np.ndarray:
        """The lines [n] int64 whose rows use `feature`."""
        return np.flatnonzero(self._features & int(feature)).astype(np.int64)

    def _extras(self, feature: Feature) -> list[tuple[int, int, RowExtras]]:
        """(line, row, extras) of the lines that use `feature`."""
        found = []
        for line in self._using(feature).tolist():
            row = int(self._rows[line])
            extras = self._table.extras[row]
            assert extras is not None, f"row {row} was released"
            found.append((line, row, extras))
        return found
