"""Tile sizes of the grouped matmul, a pure function of shapes."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Tile:
    """`routes` rows by `width` columns, `depth` of the inner dimension at a time."""

    routes: int
    width: int
    depth: int
    num_warps: int
    num_stages: int


def tile(num_routes: int, num_experts: int, dtype: torch.dtype) -> Tile:
    """Rows about as many as an expert gets, so that little of a block is padding."""
    if dtype == torch.float32:  # multiplied exactly (no TF32), from registers
        return Tile(16, 32, 32, 4, 1)
    mean = -(-num_routes // num_experts)
    if mean <= 16:
        return Tile(16, 64, 64, 4, 4)
    if mean <= 64:
        return Tile(64, 128, 64, 4, 3)
    return Tile(128, 128, 64, 8, 3)
