"""How decode attention takes keys that sequences share: a prompt that all begin with, say. Integers
on the host.

Such keys are read once for up to MEMBERS sequences, whose queries are the rows of one matrix, and
not once for each. What that gives fills slots of the sequences (`parts`), to be joined with what
comes of their own keys.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from quire.kernels.attention import tuning
from quire.kernels.attention.parts import PART, SLOT, TOKEN

MEMBERS = 32
# Columns of a tile: the row of the page table to read, the number of keys, those of each program
# along them; then for each member its token in the step, -1 for none, its length and first slot.
ROW, NUM_KEYS, SHARE, FIRST_TOKEN = range(4)
FIRST_LENGTH, FIRST_SLOT = FIRST_TOKEN + MEMBERS, FIRST_TOKEN + 2 * MEMBERS
COLUMNS = FIRST_TOKEN + 3 * MEMBERS


@dataclass(frozen=True, slots=True)
class PrefixGroup:
    """Sequences, by index in the step, whose first `num_keys` keys lie in the same pages."""

    sequences: np.ndarray
    num_keys: int


def num_tiles(groups: Sequence[PrefixGroup]) -> int:
    """How many tiles `plan_tiles` makes of them."""
    return sum(-(-len(group.sequences) // MEMBERS) for group in groups)


def num_splits(tiles: int, num_kv_heads: int, num_cores: int) -> int:
    """How many programs share the keys of a tile and KV head: so many that all have work."""
    return min(max(2 * num_cores // (tiles * num_kv_heads), 1), tuning.MAX_SPLITS)


def seen_elsewhere(
    groups: Sequence[PrefixGroup], num_sequences: int, splits: int
) -> tuple[np.ndarray, np.ndarray]:
    """`first_keys` and `num_stored` for `parts.plan_parts`, each [S]."""
    first_keys, num_stored = np.zeros((2, num_sequences), dtype=np.int64)
    for group in groups:
        first_keys[group.sequences] = group.num_keys
        num_stored[group.sequences] = -(-group.num_keys // _share(group.num_keys, splits))
    return first_keys, num_stored


def plan_tiles(
    groups: Sequence[PrefixGroup],
    rows: np.ndarray,
    seq_lens: np.ndarray,
    parts: np.ndarray,
    splits: int,
) -> np.ndarray:
    """[tiles, COLUMNS] int32 for the sequences of a step, all of one query.

    Args:
        rows, seq_lens: [S], as in `AttentionBatch`. parts: as planned for these groups.
    """
    slots = np.zeros(len(rows), dtype=np.int64)
    slots[parts[:, TOKEN]] = parts[:, SLOT] - parts[:, PART]
    tiles = np.full((num_tiles(groups), COLUMNS), -1, dtype=np.int32)
    index = 0
    for group in groups:
        for begin in range(0, len(group.sequences), MEMBERS):
            members, tile = group.sequences[begin : begin + MEMBERS], tiles[index]
            tile[ROW] = rows[members[0]]
            tile[NUM_KEYS] = group.num_keys
            tile[SHARE] = _share(group.num_keys, splits)
            for first, values in (
                (FIRST_TOKEN, members),
                (FIRST_LENGTH, seq_lens[members]),
                (FIRST_SLOT, slots[members]),
            ):
                tile[first : first + len(members)] = values
            index += 1
    return tiles


def _share(num_keys: int, splits: int) -> int:
    return -(-num_keys // (splits * tuning.PART_KEYS)) * tuning.PART_KEYS
