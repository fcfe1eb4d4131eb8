"""Sparse changes to logits: biases, banned tokens, stop tokens that come too early.

Each is "add `value` to the logit of `token` in `line`", which is flat tensors and one scatter:
a ban adds -inf. A token has at most one finite bias, and -inf absorbs whatever else is added,
so the order in which a scatter adds does not matter. A logit of +inf would become NaN, but a
line that holds one gives no token anyway.
"""

import numpy as np
import torch
from torch import Tensor

from quire.sampling.upload import upload

ALWAYS = np.iinfo(np.int64).max  # an `until` that no position reaches
ANY_TOKEN = -1  # pads the prefixes of bad words


class SparseBias:
    """n additions: [n] each, `tokens` within [0, V). One applies to positions below its `until`."""

    def __init__(
        self,
        lines: np.ndarray,
        tokens: np.ndarray,
        values: np.ndarray,
        until: np.ndarray,
        vocab_size: int,
        device: torch.device,
    ) -> None:
        limited = bool((until != ALWAYS).any())
        self.lines = upload(lines, device)
        self.index = upload(lines * vocab_size + tokens, device)
        self.values = upload(values, device)
        self.until = upload(until, device) if limited else None

    def apply(self, logits: Tensor, positions: Tensor) -> None:
        """Add to logits [S, V] in place; positions [S] int64 are the sampled tokens'."""
        values = self.values
        if self.until is not None:
            early = positions.index_select(0, self.lines) < self.until
            values = torch.where(early, values, 0.0)
        logits.view(-1).scatter_add_(0, self.index, values)


class BannedSequences:
    """w bad words of two or more tokens: the last is banned where the output ends in the others.

    Only the output counts, as in vLLM: a word begun by the prompt may be finished. Words are given
    as (line, row, num_prompt_tokens, token ids).
    """

    def __init__(
        self,
        words: list[tuple[int, int, int, tuple[int, ...]]],
        vocab_size: int,
        device: torch.device,
    ) -> None:
        width = max(len(ids) for *_, ids in words) - 1  # C
        prefixes = np.full((len(words), width), ANY_TOKEN, dtype=np.int64)
        for i, (_, _, _, ids) in enumerate(words):
            prefixes[i, : len(ids) - 1] = ids[-2::-1]
        numbers = np.array(
            [
                (line, row, line * vocab_size + ids[-1], num_prompt + len(ids) - 1)
                for line, row, num_prompt, ids in words
            ],
            dtype=np.int64,
        )
        # [w] int64. `index`: line * V + the word's last token; `first`: the lowest position at
        # which the word can be completed.
        self.lines, self.rows, self.index, self.first = upload(numbers.T, device).unbind(0)
        # [w, C]: the other tokens from the last to the first, then ANY_TOKEN.
        self.prefixes = upload(prefixes, device)
        # [C]: how far before the sampled position each column stands.
        self.offsets = upload(np.arange(1, width + 1), device)

    def apply(self, logits: Tensor, positions: Tensor, tokens: Tensor) -> None:
        """Ban in logits [S, V] in place; tokens [R, L] are valid below positions [S]."""
        at = positions.index_select(0, self.lines)  # [w]
        columns = (at.unsqueeze(1) - self.offsets).clamp_(min=0)  # [w, C]
        past = tokens[self.rows.unsqueeze(1), columns]
        fits = ((past == self.prefixes) | (self.prefixes == ANY_TOKEN)).all(dim=1)
        values = torch.where(fits & (at >= self.first), float("-inf"), 0.0)
        logits.view(-1).scatter_add_(0, self.index, values)
