"""Tile sizes of the Triton attention kernels and how many ways decode splits its keys.

Pure functions of shapes, so that the choice can be read and tested without a GPU. The 16-bit
tiles are large ones that spill no registers when compiled for compute capability 9.0 (Triton 3.6
and 3.9, head dims 64 to 256); `benchmarks/kernels.py attention` times them.
"""

from dataclasses import dataclass

import torch

MIN_SPLIT_KEYS = 256  # fewer keys than this are not worth a partial result and its merge
PROGRAMS_PER_CORE = 2  # decode programs wanted per multiprocessor, to hide memory latency
MAX_SPLITS = 64  # bounds the partials: fp32, one head_dim per split and query head


@dataclass(frozen=True, slots=True)
class Tile:
    """`queries` rows (tokens times the heads of a group) by `keys` columns."""

    queries: int
    keys: int
    num_warps: int
    num_stages: int


def prefill_tile(query_len: int, group: int, head_dim: int, dtype: torch.dtype) -> Tile:
    """For queries up to `query_len` of `group` heads; group and head_dim are powers of two.

    Few distinct heights, since each is a kernel to compile. fp32 is multiplied exactly (no TF32)
    from registers: taller tiles spill.
    """
    if dtype == torch.float32:
        return Tile(max(16, group), 32 if head_dim <= 128 else 16, 4, 1)
    rows = query_len * group
    tall = 64 if rows <= 64 or head_dim > 128 else 128
    queries = 16 if rows <= 16 else max(group, tall)
    return Tile(queries, 64 if head_dim <= 128 else 32, 8 if queries == 128 else 4, 2)


def decode_tile(group: int, head_dim: int, dtype: torch.dtype) -> Tile:
    """For one query of `group` heads; group and head_dim are powers of two."""
    if dtype == torch.float32:
        return Tile(max(16, group), 32 if head_dim <= 128 else 16, 4, 1)
    return Tile(max(16, group), 64 if head_dim <= 128 else 32, 4, 3)


def num_splits(programs: int, keys: int, num_cores: int) -> int:
    """Parts to cut `keys` into when `programs` (sequences times KV heads) leave cores idle."""
    wanted = PROGRAMS_PER_CORE * num_cores // max(1, programs)
    return max(1, min(wanted, -(-keys // MIN_SPLIT_KEYS), MAX_SPLITS))
