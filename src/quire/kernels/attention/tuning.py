"""Tile sizes of the Triton attention kernels and the sizes of decode's parts.

Pure functions of shapes, so that the choice can be read and tested without a GPU. The 16-bit
tiles are large ones that spill no registers when compiled for compute capability 9.0 (Triton 3.6
and 3.9, head dims 64 to 256); `benchmarks/kernels.py attention` times them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

PART_KEYS = 64  # parts are multiples of it: fewer keys cost more to join than they save
MAX_SPLITS = 16  # programs that take a share of keys that sequences share
JOIN_TILE = 8192  # fp32 values of parts that are read at a time when a sequence's are joined
# Of `gluon_decode`: keys of a tile, the values of a group's heads and new key that it has registers
# for, and those of its threads on average, for two programs on a multiprocessor.
DECODE_KEYS = 64
MAX_HEADS = 4096
DECODE_REGISTERS = 128
# Numbers of tokens whose decode attention is chained. H200, us a layer with the projections beside
# it, chained or not: 1 token 8.0 and 7.4 (in a row of whole layers, where all others are chained,
# 14.0 and 6.9), 8 tokens 15.3 and 16.3, 32 45.0 and 46.1, 128 135.7 and 136.8; beyond it was not
# timed.
CHAINED = range(2, 129)


@dataclass(frozen=True, slots=True)
class Tile:
    """`queries` rows (tokens times the heads of a group) by `keys` columns."""

    queries: int
    keys: int
    num_warps: int
    num_stages: int


def programs_per_core(sequences: float) -> int:
    """For so many sequences per multiprocessor, each counted once for every KV head.

    Two hide each other's beginnings of sequences; one has less to join. H200, 32 / 8 heads of
    128, us with one and with two: 8 x 1060 14.5 and 15.9, 32 x 1060 39 and 41, 128 x 1060 143 and
    138, 256 x 200 90 and 64.
    """
    return 1 if sequences <= 2 else 2


def decode_stages(head_dim: int, page_bytes: int, programs: int, is_chained: bool) -> int:
    """Of DECODE_KEYS keys and values that `gluon_decode` has in flight, for heads padded to
    `head_dim`, items of `page_bytes` and `programs` on a multiprocessor.

    96 KB, or what two have room for beside a tile of widened keys. H200, 8 bits, 64 KB and 96 KB:
    32 x 1060 64 and 45 us, 256 x 1060 246 and 338 (with 96 KB no two fit).

    A chained program that is to be alone has 128 KB, so that it is: what starts early starts where
    there is room first. H200, 1060 keys, us that attention adds to a row of whole layers of
    Llama-8B with 128 and with 96 KB, behind a matmul that does not let it start early: 8 tokens
    12.4 and 12.6, 32 tokens 35.8 and 36.6; that lets it at its beginning: 10.5 and 11.6, 33.8 and
    39.6.
    """
    size = 98304 if page_bytes > 1 or programs == 1 else 65536
    if is_chained and page_bytes > 1 and programs == 1:
        size = 131072
    return max(1, size // (2 * page_bytes * DECODE_KEYS * head_dim))


def prefill_tile(query_len: int, group: int, head_dim: int, dtype: torch.dtype) -> Tile:
    """For queries up to `query_len` of `group` heads; group and head_dim are powers of two.

    Few distinct heights, since each is a kernel to compile. fp32 is multiplied exactly (no TF32)
    from registers: taller tiles spill.
    """
    if dtype.itemsize == 4:
        return Tile(max(16, group), 32 if head_dim <= 128 else 16, 4, 1)
    rows = query_len * group
    tall = 64 if rows <= 64 or head_dim > 128 else 128
    queries = 16 if rows <= 16 else max(group, tall)
    return Tile(queries, 64 if head_dim <= 128 else 32, 8 if queries == 128 else 4, 2)


def decode_tile(lines: int, head_dim: int, dtype: torch.dtype) -> Tile:
    """For `lines`, a group's heads and its new key; lines and head_dim are powers of two."""
    if dtype.itemsize == 4:
        return Tile(max(16, lines), 32 if head_dim <= 128 else 16, 4, 1)
    # H200, 32 / 8 heads of 128, share of the read bandwidth: 256 x 1024 98%, 32 x 1024 82%,
    # 16 x 4096 87%; (64 keys, 2 warps: 93%, 78%, 90%). A smaller batch is bound by latency.
    queries = max(16, lines)
    return Tile(queries, 128 if head_dim <= 128 else 64, 4, 3)
