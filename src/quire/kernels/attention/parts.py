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
# part's keys [FIRST, END), the part's index and the number of the sequence's parts, its place
# among all parts, sequence by sequence, the token again in a program's first part and -1 in
# others, and the line of the program's next part or -1.
TOKEN, ROW, SEQ_LEN, FIRST, END, PART, NUM_PARTS, PLACE, LEADS, NEXT = range(10)
COLUMNS = 10


def plan_parts(
    query_starts: np.ndarray,
    rows: np.ndarray,
    seq_lens: np.ndarray,
    window: int | None,
    num_kv_heads: int,
    num_cores: int,
) -> np.ndarray:
    """[W, COLUMNS] int32: the parts of the sequences of one query.

    Line p is the first part of program p, of at most `num_programs` for each KV head; parts that
    are not a program's first follow.

    Args:
        query_starts: [S + 1] int32; rows, seq_lens: [S] int32. As in `AttentionBatch`.
    """
    single = np.flatnonzero(np.diff(query_starts) == 1)
    if not len(single):
        return np.empty((0, COLUMNS), dtype=np.int32)
    lens = seq_lens[single].astype(np.int64)
    first_keys = np.zeros_like(lens) if window is None else np.maximum(lens - window, 0)
    tiles = np.maximum(-(-(lens - 1 - first_keys) // tuning.PART_KEYS), 1)
    ends = np.cumsum(tiles)
    total = int(tiles.sum())
    shares = min(num_programs(len(lens), num_kv_heads, num_cores), total)
    cuts = np.arange(shares + 1) * total // shares
    bounds = np.union1d(ends, cuts)  # where parts begin, and the end of the last
    begins, counts = bounds[:-1], np.diff(bounds)
    sequence = np.searchsorted(ends, begins, side="right")
    before = begins - (ends - tiles)[sequence]  # of the sequence's tiles
    num_parts = np.bincount(sequence, minlength=len(lens))
    place = np.arange(len(begins))
    first = np.isin(begins, cuts)  # of its program's parts
    lines = np.where(first, np.cumsum(first) - 1, shares + np.cumsum(~first) - 1)
    parts = np.empty((len(begins), COLUMNS), dtype=np.int32)
    parts[lines, TOKEN] = query_starts[single[sequence]]
    parts[lines, ROW] = rows[single[sequence]]
    parts[lines, SEQ_LEN] = lens[sequence]
    low = first_keys[sequence] + before * tuning.PART_KEYS
    last = bounds[1:] == ends[sequence]
    parts[lines, FIRST] = low
    parts[lines, END] = np.where(last, lens[sequence], low + counts * tuning.PART_KEYS)
    parts[lines, PART] = place - (np.cumsum(num_parts) - num_parts)[sequence]
    parts[lines, NUM_PARTS] = num_parts[sequence]
    parts[lines, PLACE] = place
    parts[lines, LEADS] = np.where(first, parts[lines, TOKEN], -1)
    parts[lines, NEXT] = np.append(np.where(first, -1, lines)[1:], -1)
    return parts


def num_programs(num_sequences: int, num_kv_heads: int, num_cores: int) -> int:
    """How many programs share the keys of a KV head."""
    per_core = tuning.programs_per_core(num_sequences * num_kv_heads / num_cores)
    return max(per_core * num_cores // num_kv_heads, 1)


def max_parts(num_sequences: int, num_kv_heads: int, num_cores: int) -> int:
    """No plan for so many sequences has more parts."""
    return num_sequences + num_programs(num_sequences, num_kv_heads, num_cores)
