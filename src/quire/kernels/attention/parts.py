"""How decode attention cuts the keys of a step's sequences into parts. Integers on the host.

A part of one KV head is one program. Parts are sized by the keys of the whole batch, so that
there are enough programs for the device whatever the lengths: a small batch is cut finely, a
large one not at all, and one long sequence among short ones does not run alone at the end.
"""

import numpy as np

from quire.kernels.attention import tuning

# Columns of a part: the sequence's token in the step, its row in the page table, its length,
# the part's index and the number of the sequence's parts.
TOKEN, ROW, SEQ_LEN, PART, NUM_PARTS = range(5)
COLUMNS = 5


def plan_parts(
    query_starts: np.ndarray,
    rows: np.ndarray,
    seq_lens: np.ndarray,
    window: int | None,
    num_kv_heads: int,
    num_cores: int,
) -> np.ndarray:
    """[W, COLUMNS] int32: the parts of the sequences of one query, a sequence's in order.

    Args:
        query_starts: [S + 1] int32; rows, seq_lens: [S] int32. As in `AttentionBatch`.
    """
    single = np.flatnonzero(np.diff(query_starts) == 1)
    keys = seq_lens[single]
    if window is not None:
        keys = np.minimum(keys, window)
    span = max(1.0, int(keys.sum()) * num_kv_heads / (tuning.PROGRAMS_PER_CORE * num_cores))
    tiles = -(-keys // tuning.PART_KEYS)
    counts = np.clip(np.rint(keys / span).astype(np.int64), 1, np.minimum(tiles, tuning.MAX_PARTS))
    counts = -(-tiles // -(-tiles // counts))  # none is empty: parts are whole tiles
    parts = np.empty((int(counts.sum()), COLUMNS), dtype=np.int32)
    sequences = np.repeat(single, counts)
    parts[:, TOKEN] = query_starts[sequences]
    parts[:, ROW] = rows[sequences]
    parts[:, SEQ_LEN] = seq_lens[sequences]
    parts[:, PART] = np.arange(len(parts)) - np.repeat(np.cumsum(counts) - counts, counts)
    parts[:, NUM_PARTS] = np.repeat(counts, counts)
    return parts


def max_parts(num_sequences: int, num_kv_heads: int, num_cores: int) -> int:
    """No plan for so many sequences has more parts."""
    return num_sequences + -(-tuning.PROGRAMS_PER_CORE * num_cores // num_kv_heads)
