"""A decode step's inputs from the device rows, and its tokens back to them, in plain torch."""

import torch
from torch import Tensor


def stage(
    tokens: Tensor,
    page_size: int,
    page_table: Tensor,
    rows: Tensor,
    seq_lens: Tensor,
    new_pages: Tensor,
    token_ids: Tensor,
    positions: Tensor,
    slots: Tensor,
) -> None:
    """Fill token_ids, positions and slots, each [S] int64, for sequences of one query each.

    Args:
        tokens: [R, L] int32, token ids by row.
        page_table: [R, M] int32; a page in `new_pages` [S] int32 (-1 for none) is entered for
            the column of the sequence's position first.
        rows, seq_lens: [S] int32. Sequence i stands at position seq_lens[i] - 1. One of length
            0 is padding: token 0, position 0, slot -1.
    """
    real = seq_lens > 0
    at, row = (seq_lens.long() - 1).clamp(min=0), rows.long()
    column = at // page_size
    entered = real & (new_pages >= 0)
    page_table[row[entered], column[entered]] = new_pages[entered]
    token_ids.copy_(torch.where(real, tokens[row, at], 0))
    positions.copy_(at)
    slots.copy_(torch.where(real, page_table[row, column] * page_size + at % page_size, -1))


def append(tokens: Tensor, rows: Tensor, seq_lens: Tensor, sampled: Tensor) -> None:
    """Write sampled [S] int64 behind the sequences in tokens [R, L]; nothing for padding.

    A failed line's -1 becomes 0, a valid id, because the step after may already be on its way
    and reads it.
    """
    flat, index = tokens.view(-1), rows.long() * tokens.shape[1] + seq_lens
    # Padding writes what is there already.
    flat[index] = torch.where(seq_lens > 0, sampled.clamp(min=0).to(tokens.dtype), flat[index])
