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
# among all parts, sequence by sequence, and the line of the same program's next part or -1.
TOKEN, ROW, SEQ_LEN, FIRST, END, PART, NUM_PARTS, PLACE, NEXT = range(9)
COLUMNS = 9


def plan_parts(
    query_starts: np.ndarray,
    rows: np.ndarray,
    seq_lens: np.ndarray,
    window: int | None,
    num_kv_heads: int,
    num_cores: int,
) -> np.ndarray:
    """[W, COLUMNS] int32: the parts of the sequences of one query.

    Line p is the first part of program p, of `num_programs` for each KV head, or all -1 if it has
    none; the others follow.

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
    per_core = tuning.programs_per_core(len(lens) * num_kv_heads / num_cores)
    shares = min(max(per_core * num_cores // num_kv_heads, 1), total)
    cuts = np.arange(shares + 1) * total // shares
    bounds = np.union1d(ends, cuts)  # where parts begin, and the end of the last
    begins, counts = bounds[:-1], np.diff(bounds)
    sequence = np.searchsorted(ends, begins, side="right")
    before = begins - (ends - tiles)[sequence]  # of the sequence's tiles
    num_parts = np.bincount(sequence, minlength=len(lens))
    place = np.arange(len(begins))
    first = np.isin(begins, cuts)  # of its program's parts
    num_firsts = num_programs(num_kv_heads, num_cores)
    lines = np.where(first, np.cumsum(first) - 1, num_firsts + np.cumsum(~first) - 1)
    own = np.empty((len(begins), COLUMNS), dtype=np.int32)
    own[:, TOKEN] = query_starts[single[sequence]]
    own[:, ROW] = rows[single[sequence]]
    own[:, SEQ_LEN] = lens[sequence]
    own[:, FIRST] = first_keys[sequence] + before * tuning.PART_KEYS
    last = bounds[1:] == ends[sequence]
    own[:, END] = np.where(last, lens[sequence], own[:, FIRST] + counts * tuning.PART_KEYS)
    own[:, PART] = place - (np.cumsum(num_parts) - num_parts)[sequence]
    own[:, NUM_PARTS] = num_parts[sequence]
    own[:, PLACE] = place
    own[:, NEXT] = np.append(np.where(first, -1, lines)[1:], -1)
    parts = np.full((num_firsts + len(own) - shares, COLUMNS), -1, dtype=np.int32)
    parts[lines] = own
    return parts


def num_programs(num_kv_heads: int, num_cores: int) -> int:
    """The most programs that share the keys of a KV head."""
    return max(tuning.MAX_PROGRAMS_PER_CORE * num_cores // num_kv_heads, 1)


def max_parts(num_sequences: int, num_kv_heads: int, num_cores: int) -> int:
    """No plan for so many sequences has more lines."""
    return num_sequences + num_programs(num_kv_heads, num_cores)
