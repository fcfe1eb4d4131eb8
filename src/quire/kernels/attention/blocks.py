"""How prefill attention on Hopper shares a step's queries out. Integers on the host.

A block is up to `ROWS` rows of one sequence, a row being one of its tokens with one of the query
heads that share a KV head. The longest blocks come first, for a program to take long and short
ones in turn.
"""

import numpy as np

ROWS = 128

# A plan's first line begins with the number of blocks. Columns of a block: its sequence, the
# sequence's first token in the step, the position of that token, the block's first row and the end
# of the sequence's rows.
COLUMNS = 5


def plan_blocks(
    query_lens: np.ndarray, seq_lens: np.ndarray, group: int, window: int | None, skip_single: bool
) -> np.ndarray:
    """[1 + B, COLUMNS] int32 for sequences [S] whose KV heads have `group` query heads each.

    `skip_single` leaves out the sequences of one query.
    """
    starts = np.cumsum(query_lens) - query_lens
    num_rows = np.where(query_lens > int(skip_single), query_lens * group, 0)
    counts = -(-num_rows // ROWS)
    sequences = np.repeat(np.arange(len(counts)), counts)
    firsts = ROWS * (np.arange(len(sequences)) - np.repeat(np.cumsum(counts) - counts, counts))
    ends = num_rows[sequences]
    offsets = (seq_lens - query_lens)[sequences]
    keys = offsets + (np.minimum(firsts + ROWS, ends) - 1) // group + 1
    if window is not None:
        keys = np.minimum(keys, window + (ROWS - 1) // group)
    blocks = np.stack([sequences, starts[sequences], offsets, firsts, ends], axis=1)
    plan = np.zeros((1 + len(blocks), COLUMNS), dtype=np.int32)
    plan[0, 0] = len(blocks)
    plan[1:] = blocks[np.argsort(-keys, kind="stable")]
    return plan


def max_blocks(num_tokens: int, num_sequences: int, group: int) -> int:
    """No plan for so many has more blocks."""
    return num_tokens * group // ROWS + num_sequences
