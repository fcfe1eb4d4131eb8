"""Repetition, frequency and presence penalties, from the token ids on the device.

Nothing is carried from step to step: the counts are taken from the row's tokens each time, for
the lines that have a penalty. Preemption, resuming and asynchronous steps therefore need no
care here. Only logits of tokens that occur are touched.
"""

import torch
from torch import Tensor

from quire.sampling.rows import RowNumbers


class Penalties:
    """The n lines [n] int64 that have a penalty, and their rows, out of `numbers` of all. `count`:
    some frequency or presence penalty is not 0."""

    def __init__(self, lines: Tensor, rows: Tensor, numbers: RowNumbers, count: bool) -> None:
        self.lines, self.rows, self.count = lines, rows, count
        self.num_prompt_tokens = numbers.num_prompt_tokens.index_select(0, lines)
        self.repetition = numbers.repetition.index_select(0, lines)
        self.frequency = numbers.frequency.index_select(0, lines)
        self.presence = numbers.presence.index_select(0, lines)

    def apply(
        self, logits: Tensor, positions: Tensor, tokens: Tensor, num_columns: int, max_elements: int
    ) -> None:
        """Change logits [S, V] in place: repetition, then frequency, then presence.

        Args:
            positions: [S] int64, tokens [R, L] are valid below them.
            num_columns: no position is above it.
            max_elements: bound on the elements of a temporary.
        """
        num_lines, vocab_size = self.lines.shape[0], logits.shape[1]
        group = max(1, max_elements // max(vocab_size, num_columns))
        tokens = tokens[:, :num_columns]
        for start in range(0, num_lines, group):
            self._apply_to(slice(start, start + group), logits, positions, tokens)

    def _apply_to(self, some: slice, logits: Tensor, positions: Tensor, tokens: Tensor) -> None:
        lines, vocab_size = self.lines[some].unsqueeze(1), logits.shape[1]
        token_ids = tokens.index_select(0, self.rows[some]).long()  # [n, C]
        columns = torch.arange(tokens.shape[1], device=tokens.device)
        valid = columns < positions.index_select(0, self.lines[some]).unsqueeze(1)
        valid &= (token_ids >= 0) & (token_ids < vocab_size)
        # What is not a token stands for the first one, which every sequence has: each change
        # below depends on (line, token) alone, so it does not matter how often one is written.
        first = token_ids[:, :1].clamp(0, vocab_size - 1)
        token_ids = torch.where(valid, token_ids, first)
        index = (lines * vocab_size + token_ids).view(-1)

        flat = logits.view(-1)
        values = flat.gather(0, index).view_as(token_ids)
        factor = self.repetition[some].unsqueeze(1)
        values = torch.where(values > 0, values / factor, values * factor)
        if self.count:
            output = valid & (columns >= self.num_prompt_tokens[some].unsqueeze(1))
            counts = values.new_zeros(token_ids.shape[0], vocab_size)
            counts.scatter_add_(1, token_ids, output.to(values.dtype))
            counts = counts.gather(1, token_ids)
            values = values - self.frequency[some].unsqueeze(1) * counts
            values = values - self.presence[some].unsqueeze(1) * (counts > 0)
        flat.scatter_(0, index, values.view(-1))
