"""How decode attention shares a step's keys out. Integers on the host.

The keys of all single-query sequences, laid end to end, are cut into equal shares, as many as
there are programs for a KV head: a small batch is cut finely, and one long sequence among short
ones does not run alone at the end. A *part* is what one program has of one sequence; most of a
large batch's sequences are a single part. The newest key counts for nothing here, since it is
attended to from registers, or costs one more tile.
"""

import numpy as np

from quire.kernels.attention import tuning

# Columns of a part: the sequence's token in the step, its row in the page table, its length, the
# part's keys [FIRST, END), the part's index and the number of the sequence's parts.
TOKEN, ROW, SEQ_LEN, FIRST, END, PART, NUM_PARTS = range(7)
# Program p of a KV head works on lines [FIRST_LINE, END_LINE) of line p.
FIRST_LINE, END_LINE = 7, 8
COLUMNS = 9


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
    lens = seq_lens[single].astype(np.int64)
    first_keys = np.zeros_like(lens) if window is None else np.maximum(lens - window, 0)
    tiles = np.maximum(-(-(lens - 1 - first_keys) // tuning.PART_KEYS), 1)
    ends = np.cumsum(tiles)
    total = int(tiles.sum())
    programs = min(num_programs(num_kv_heads, num_cores), total)
    cuts = np.arange(programs + 1) * total // max(programs, 1)
    bounds = np.union1d(ends, cuts)  # where parts begin, and the end of the last
    begins = bounds[:-1]
    sequence = np.searchsorted(ends, begins, side="right")
    before = begins - (ends - tiles)[sequence]  # of the sequence's tiles
    own = first_keys[sequence] + before * tuning.PART_KEYS
    parts = np.zeros((len(begins), COLUMNS), dtype=np.int32)
    parts[:, TOKEN] = query_starts[single[sequence]]
    parts[:, ROW] = rows[single[sequence]]
    parts[:, SEQ_LEN] = lens[sequence]
    parts[:, FIRST] = own
    last = bounds[1:] == ends[sequence]
    parts[:, END] = np.where(last, lens[sequence], own + np.diff(bounds) * tuning.PART_KEYS)
    counts = np.bincount(sequence, minlength=len(lens))
    parts[:, PART] = np.arange(len(parts)) - (np.cumsum(counts) - counts)[sequence]
    parts[:, NUM_PARTS] = counts[sequence]
    lines = np.searchsorted(begins, cuts)
    parts[:programs, FIRST_LINE], parts[:programs, END_LINE] = lines[:-1], lines[1:]
    return parts


def num_programs(num_kv_heads: int, num_cores: int) -> int:
    """Programs that share the keys of a KV head."""
    return max(tuning.PROGRAMS_PER_CORE * num_cores // num_kv_heads, 1)


def max_parts(num_sequences: int, num_kv_heads: int, num_cores: int) -> int:
    """No plan for so many sequences has more parts."""
    return num_sequences + num_programs(num_kv_heads, num_cores)
