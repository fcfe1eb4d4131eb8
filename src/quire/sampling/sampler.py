"""The sampler: logits of a step in, one token per line out. Runs in the worker, on its stream.

The order is vLLM's (v1, raw log-probabilities):

1. log-probabilities, where asked for, from the model's own logits;
2. allowed_token_ids and grammars (the token mask);
3. bad_words: a word's last token, where the output ends in the rest of it;
4. the processors that can change the most likely token: stop tokens before min_tokens, then
   logit_bias, then the user's logits_processors;
5. repetition penalty (prompt and output), frequency and presence penalties (output only);
6. `ops.sample`: temperature, min_p, top_k, top_p and the draw; temperature 0 takes the most
   likely token of step 5.

Steps 3 and 4 up to logit_bias are additions that do not depend on each other's order, so
single-token bad words, stop tokens and biases share one scatter.

Nothing here waits for the device or asks it anything, except what a user's own processor does.
A steady batch uploads nothing. The sampler keeps no token history: whatever depends on past
tokens is computed from the rows' token ids on the device.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from quire.kernels.table import Ops
from quire.sampling.batch import SamplingBatch
from quire.sampling.logprobs import LogprobTensors, pick, prompt_logprobs, raw_logprobs
from quire.sampling.processors import HostTokens, run_processors
from quire.sampling.rows import DrawNumbers, RowNumbers, RowTable
from quire.sampling.token_mask import apply_masks

# Bound on a temporary that has a vocabulary (or a sequence) per line: 64 MiB of fp32.
MAX_ELEMENTS = 1 << 24


@dataclass(frozen=True, slots=True)
class SamplerOutput:
    """One step's tokens.

    Args:
        token_ids: [S] int64 on the device, -1 where the logits were not a number (or none of
            the tokens was allowed).
        logprobs: of the lines in `logprob_lines`, in that order; None where no line asked.
        logprob_lines: indices into [0, S).
        errors: line -> why it has no token, where a user's processor failed.
    """

    token_ids: Tensor
    logprobs: LogprobTensors | None = None
    logprob_lines: list[int] = field(default_factory=list)
    errors: dict[int, str] = field(default_factory=dict)


class Sampler:
    """Samples for the R rows of one runner, whose parameters are in `rows`."""

    def __init__(self, vocab_size: int, num_rows: int, device: torch.device, ops: Ops) -> None:
        self.vocab_size = vocab_size
        self._device = device
        self._ops_sample = ops.sample
        self.rows = RowTable(vocab_size, num_rows, device)
        self._batch: SamplingBatch | None = None
        self._batch_version = -1

    def draws_all(self, rows: Sequence[int]) -> bool:
        """Whether `draw` is all that `rows` need; else it takes `sample`."""
        return self.rows.special.isdisjoint(rows)

    def host_numbers(self, rows: Sequence[int] | np.ndarray) -> tuple[np.ndarray, ...]:
        """See `RowTable.host_numbers`."""
        return self.rows.host_numbers(rows)

    def draw(self, logits: Tensor, numbers: DrawNumbers) -> Tensor:
        """Temperature, filters and the draw alone, what a CUDA graph can hold, of logits [S, V],
        which are left as they are."""
        return self._ops_sample(logits, numbers)

    def draw_rows(self, logits: Tensor, rows: Tensor, positions: Tensor) -> Tensor:
        """`draw` for `rows` [S] int32 on the device, at positions [S] int64."""
        return self._draw_lines(logits, self.rows.gather(rows), positions)

    def _draw_lines(self, logits: Tensor, n: RowNumbers, positions: Tensor) -> Tensor:
        numbers = DrawNumbers(n.temperature, n.top_k, n.top_p, n.min_p, n.seed, positions)
        return self._ops_sample(logits, numbers)

    def sample(
        self,
        logits: Tensor,
        rows: np.ndarray,
        positions: Tensor,
        tokens: Tensor,
        host_tokens: HostTokens | None = None,
        max_position: int | None = None,
    ) -> SamplerOutput:
        """Choose a token for each line.

        Args:
            logits: [S, V] fp32 or the model's dtype; may be changed in place.
            rows: [S] int32 on the host, the row of each line.
            positions: [S] int64, the position the sampled token will take.
            tokens: [R, L] int32 or int64, every row's token ids, valid below its position.
            host_tokens: row -> (prompt ids, output ids); needed for logits_processors only.
            max_position: no position is above it. Penalties look at that many columns of
                `tokens`; without it at all L.

        Returns:
            Device tensors, valid for good.
        """
        if not len(rows):
            return SamplerOutput(torch.empty(0, dtype=torch.int64, device=self._device))
        assert logits.shape == (len(rows), self.vocab_size), f"logits are {tuple(logits.shape)}"
        batch = self._batch_of(rows)
        asked = batch.logprobs
        raw = None if asked is None else raw_logprobs(asked.of(logits))
        if batch.changes_logits:
            logits = logits.float().contiguous()  # the sparse changes index it flat
        if batch.masked:
            lines, masked_rows = batch.masked
            masks = self.rows.mask.device_masks().index_select(0, masked_rows)
            apply_masks(logits, lines, masks, MAX_ELEMENTS)
        if batch.banned_sequences:
            batch.banned_sequences.apply(logits, positions, tokens)
        if batch.bias:
            batch.bias.apply(logits, positions)
        errors = _run_all_processors(logits, batch, host_tokens) if batch.processors else {}
        if batch.penalties:
            columns = tokens.shape[1] if max_position is None else max_position
            batch.penalties.apply(logits, positions, tokens, columns, MAX_ELEMENTS)
        token_ids = self._draw_lines(logits, batch.numbers, positions)
        if raw is None or asked is None:
            return SamplerOutput(token_ids, errors=errors)
        picked = pick(raw, asked.of(token_ids), max(asked.num_top))
        logprobs = LogprobTensors(*picked, asked.num_top)
        return SamplerOutput(token_ids, logprobs, asked.lines, errors)

    def prompt_logprobs(self, logits: Tensor, targets: Tensor, k: int) -> LogprobTensors:
        """Log-probabilities of a prompt's own tokens.

        Args:
            logits: [n, V], left as they are.
            targets: [n], the token that follows each.
            k: how many of the most likely besides; -1 is the whole vocabulary.
        """
        return prompt_logprobs(logits, targets, k, MAX_ELEMENTS)

    def _batch_of(self, rows: np.ndarray) -> SamplingBatch:
        batch = self._batch
        if (
            batch is not None
            and self._batch_version == self.rows.version
            and batch.rows.tobytes() == rows.tobytes()
        ):
            return batch
        self._batch = SamplingBatch(self.rows, rows)
        self._batch_version = self.rows.version
        return self._batch


def _run_all_processors(
    logits: Tensor, batch: SamplingBatch, host_tokens: HostTokens | None
) -> dict[int, str]:
    assert host_tokens is not None, "logits_processors need the token ids on the host"
    errors = {}
    for line, row, processors in batch.processors:
        error = run_processors(logits, line, row, processors, host_tokens)
        if error is not None:
            errors[line] = error
    return errors
