"""How decode attention shares a step's keys out. Integers on the host.

The keys of all single-query sequences, laid end to end, are cut into equal shares, as many as
there are programs for a KV head: a small batch is cut finely, and one long sequence among short
ones does not run alone at the end. A *part* is what one program has of one sequence; most of a
large batch's sequences are a single part. The newest key counts for nothing here, since it is
attended to from registers, or costs one more tile.

What a part leaves, to be joined with a sequence's others, has a *slot*. Where sequences share
their first keys (`shared`), these are no part's, and what was computed from them is in the slots
ahead of the sequence's parts.
"""

import numpy as np

from quire.kernels.attention import tuning

# Columns of a part: the sequence's token in the step, its row in the page table, its length, the
# part's keys [FIRST, END), its index among what is joined and their number, its slot, and how many
# of the sequence's parts are worked on here.
TOKEN, ROW, SEQ_LEN, FIRST, END, PART, NUM_PARTS, SLOT, AWAITED = range(9)
# Program p of each KV head works on the lines [FIRST_LINE, END_LINE) that line p names. Were each
# line to name the next, a program would wait for three loads between two sequences, not for one.
FIRST_LINE, END_LINE = 9, 10
# Its first line is in line p itself, too, from column OWN on: no second load to wait for.
OWN = 11
COLUMNS = 20


def plan_parts(
    query_starts: np.ndarray,
    rows: np.ndarray,
    seq_lens: np.ndarray,
    window: int | None,
    num_kv_heads: int,
    first_keys: np.ndarray | None = None,
    num_stored: np.ndarray | None = None,
    *,
    num_cores: int,
) -> np.ndarray:
    """[W, COLUMNS] int32: the parts of the sequences of one query, a sequence's in order.

    Args:
        query_starts: [S + 1] int32; rows, seq_lens: [S] int32. As in `AttentionBatch`.
        first_keys: [S], the first key that is not seen elsewhere, and num_stored [S], the slots
            that are filled there. For no window.
    """
    single = np.flatnonzero(np.diff(query_starts) == 1)
    if not len(single):
        return np.empty((0, COLUMNS), dtype=np.int32)
    lens = seq_lens[single].astype(np.int64)
    if first_keys is not None:
        first_keys = first_keys[single]
    else:
        first_keys = np.zeros_like(lens) if window is None else np.maximum(lens - window, 0)
    stored = np.zeros_like(lens) if num_stored is None else num_stored[single]
    tiles = np.maximum(-(-(lens - 1 - first_keys) // tuning.PART_KEYS), 1)
    ends = np.cumsum(tiles)
    begins = ends - tiles
    total = int(ends[-1])
    shares = min(num_programs(len(lens), num_kv_heads, num_cores), total)
    # Program p takes tiles [p * total // shares, (p + 1) * total // shares), so tile t is of
    # program ((t + 1) * shares - 1) // total.
    first_programs = ((begins + 1) * shares - 1) // total
    counts = (ends * shares - 1) // total - first_programs + 1
    num_before = np.cumsum(counts) - counts
    by_sequence = np.array(
        (query_starts[single], rows[single], lens, first_keys, begins, ends, first_programs, counts,
         num_before, stored, np.cumsum(stored))
    )  # fmt: skip
    token, row, seq_len, first_key, begin, end, program, count, before, filled, slots_before = (
        np.repeat(by_sequence, counts, axis=1)
    )
    part = np.arange(len(token)) - before
    program += part
    low = np.maximum(begin, program * total // shares)
    high = np.minimum(end, (program + 1) * total // shares)
    parts = np.zeros((len(token), COLUMNS), dtype=np.int32)
    parts[:, :FIRST_LINE] = np.array(
        (
            token,
            row,
            seq_len,
            first_key + (low - begin) * tuning.PART_KEYS,
            np.where(high == end, seq_len, first_key + (high - begin) * tuning.PART_KEYS),
            part + filled,
            count + filled,
            np.arange(len(token)) + slots_before,
            count,
        )
    ).T
    lines = np.append(np.flatnonzero(np.diff(program, prepend=-1)), len(token))
    parts[:shares, FIRST_LINE], parts[:shares, END_LINE] = lines[:-1], lines[1:]
    parts[:shares, OWN:] = parts[lines[:-1], :FIRST_LINE]
    return parts


def num_programs(num_sequences: int, num_kv_heads: int, num_cores: int) -> int:
    """How many programs share the keys of a KV head."""
    per_core = tuning.programs_per_core(num_sequences * num_kv_heads / num_cores)
    return max(per_core * num_cores // num_kv_heads, 1)


def max_parts(num_sequences: int, num_kv_heads: int, num_cores: int) -> int:
    """No plan for so many sequences has more parts."""
    return num_sequences + num_programs(num_sequences, num_kv_heads, num_cores)
