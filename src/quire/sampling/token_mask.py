"""Packed bitmasks of allowed tokens, a row each: `allowed_token_ids`, and what grammars allow.

Token t is bit t % 32 of word t // 32, set where the token is allowed: the layout in which
grammar libraries fill their masks.
"""

import numpy as np
import torch
from torch import Tensor

from quire.sampling.upload import upload

WORD_BITS = 32
BYTE_BITS = 8


def pack(token_ids: list[int], vocab_size: int) -> np.ndarray:
    """The mask that allows `token_ids` and nothing else: [ceil(V / 32)] int32."""
    allowed = np.zeros(-(-vocab_size // WORD_BITS) * WORD_BITS, dtype=bool)
    allowed[[token for token in token_ids if 0 <= token < vocab_size]] = True
    return np.packbits(allowed, bitorder="little").view(np.int32)


class TokenMask:
    """Every row's mask on the device: [R, ceil(V / 32)] int32, allocated on first use."""

    def __init__(self, num_rows: int, vocab_size: int, device: torch.device) -> None:
        self._shape = (num_rows, -(-vocab_size // WORD_BITS))
        self._device = device
        self._masks: Tensor | None = None
        self._changed: dict[int, np.ndarray] = {}

    def set(self, row: int, mask: np.ndarray) -> None:
        """Give `row` a mask [ceil(V / 32)] int32; it is uploaded at the next `device_masks`."""
        self._changed[row] = mask

    def device_masks(self) -> Tensor:
        """[R, ceil(V / 32)] int32, up to date. Rows that never had a mask are undefined."""
        if self._masks is None:
            self._masks = torch.zeros(self._shape, dtype=torch.int32, device=self._device)
        if self._changed:
            rows = upload(np.fromiter(self._changed, dtype=np.int64), self._device)
            masks = upload(np.stack(list(self._changed.values())), self._device)
            self._masks.index_copy_(0, rows, masks)
            self._changed.clear()
        return self._masks


def apply_masks(logits: Tensor, lines: Tensor, masks: Tensor, max_elements: int) -> None:
    """Set the logits of tokens that are not allowed to -inf, in place.

    Args:
        logits: [S, V] fp32.
        lines: [n] int64, the lines that have a mask.
        masks: [n, ceil(V / 32)] int32, theirs.
        max_elements: bound on the elements of a temporary.
    """
    vocab_size = logits.shape[1]
    group = max(1, max_elements // vocab_size)
    # Bytes, not words: a quarter of the temporary. Little-endian, as every device here is.
    shifts = torch.arange(BYTE_BITS, dtype=torch.uint8, device=logits.device)
    for some, packed in zip(lines.split(group), masks.split(group), strict=True):
        bits = (packed.view(torch.uint8).unsqueeze(-1) >> shifts) & 1  # [n, 4 W, 8]
        banned = bits.flatten(1)[:, :vocab_size] == 0
        chosen = logits.index_select(0, some).masked_fill_(banned, float("-inf"))
        logits.index_copy_(0, some, chosen)
