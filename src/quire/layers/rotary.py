"""Rotary position tables: cos and sin of every position, for each kind of scaling.

A table is built once, for the longest sequence the model will serve (`max_len`), so that a
token's rotation depends on nothing but its position. Two kinds of scaling are defined by
the running length of the sequence instead, which would not be stable while a cached sequence
grows; they are settled by `max_len` as vLLM does:
  longrope: the short factors if `max_len` is within the trained length, else the long ones;
  dynamic: unscaled within the config's length, else the base for a sequence of `max_len`.
The formulas are those of transformers' modeling_rope_utils.
"""

import math

import torch
from torch import Tensor

from quire.kernels.table import Rope
from quire.models.recipe import RopeRecipe


def make_rope(rope: RopeRecipe, max_len: int, device: torch.device) -> Rope:
    """The table of `rope` for positions below `max_len`, on `device`."""
    return Rope(rotary_table(rope, max_len).to(device), rope.interleaved)


def rotary_table(rope: RopeRecipe, max_len: int) -> Tensor:
    """[max_len, rotary_dim] fp32 on the CPU: cos then sin of position * frequency, scaled."""
    frequencies, scaling = frequencies_and_scaling(rope, max_len)
    positions = torch.arange(max_len, dtype=torch.float32)
    angles = positions[:, None] * frequencies  # [L, rotary_dim / 2]
    return torch.cat((angles.cos() * scaling, angles.sin() * scaling), dim=-1)


def frequencies_and_scaling(rope: RopeRecipe, max_len: int) -> tuple[Tensor, float]:
    """The inverse frequencies [rotary_dim / 2] fp32 and what cos and sin are multiplied by."""
    match rope.kind:
        case "default":
            return _inverse(rope.theta, rope.rotary_dim), 1.0
        case "linear":
            return _inverse(rope.theta, rope.rotary_dim) / rope.factor, 1.0
        case "dynamic":
            return _dynamic(rope, max_len), 1.0
        case "llama3":
            return _llama3(rope), 1.0
        case "yarn":
            return _yarn(rope), _yarn_scaling(rope)
        case "longrope":
            return _longrope(rope, max_len), _longrope_scaling(rope)


def _exponents(dim: int) -> Tensor:
    return torch.arange(0, dim, 2, dtype=torch.float32) / dim


def _inverse(theta: float, dim: int) -> Tensor:
    return 1.0 / theta ** _exponents(dim)


def _original(rope: RopeRecipe) -> int:
    return rope.original_max_position or rope.max_position


def _dynamic(rope: RopeRecipe, max_len: int) -> Tensor:
    """NTK-aware: the base grows so that the slowest frequency spans `max_len`."""
    dim = rope.rotary_dim
    stretch = rope.factor * max(max_len, rope.max_position) / rope.max_position
    theta = rope.theta * (stretch - (rope.factor - 1)) ** (dim / (dim - 2))
    return _inverse(theta, dim)


def _llama3(rope: RopeRecipe) -> Tensor:
    """Long waves slowed by `factor`, short ones kept, the ones between interpolated."""
    inverse = _inverse(rope.theta, rope.rotary_dim)
    wavelength = 2 * math.pi / inverse
    low, high = rope.low_freq_factor, rope.high_freq_factor
    keep = ((_original(rope) / wavelength - low) / (high - low)).clamp(0, 1)
    blended = (1 - keep) * inverse / rope.factor + keep * inverse
    # The ends exactly, not through the blend's rounding.
    blended = torch.where(keep <= 0, inverse / rope.factor, blended)
    return torch.where(keep >= 1, inverse, blended)


def _yarn(rope: RopeRecipe) -> Tensor:
    """YaRN (arXiv 2309.00071): interpolate the slow dimensions, keep the fast ones."""
    dim = rope.rotary_dim
    powers = rope.theta ** _exponents(dim)

    def dimension(rotations: float) -> float:
        """The dimension that turns `rotations` times within the trained length."""
        return (dim * math.log(_original(rope) / (rotations * 2 * math.pi))) / (
            2 * math.log(rope.theta)
        )

    low, high = dimension(rope.beta_fast), dimension(rope.beta_slow)
    if rope.truncate:
        low, high = float(math.floor(low)), float(math.ceil(high))
    low, high = max(low, 0.0), min(high, dim - 1.0)
    if low == high:
        high += 0.001  # the ramp's own guard against dividing by nothing
    ramp = ((torch.arange(dim // 2, dtype=torch.float32) - low) / (high - low)).clamp(0, 1)
    return (1.0 / (rope.factor * powers)) * ramp + (1.0 / powers) * (1 - ramp)


def _yarn_scaling(rope: RopeRecipe) -> float:
    def mscale(weight: float) -> float:
        return 0.1 * weight * math.log(rope.factor) + 1.0 if rope.factor > 1 else 1.0

    if rope.attention_factor is not None:
        return rope.attention_factor
    if rope.mscale and rope.mscale_all_dim:
        return mscale(rope.mscale) / mscale(rope.mscale_all_dim)
    return mscale(1.0)


def _longrope(rope: RopeRecipe, max_len: int) -> Tensor:
    """LongRoPE (arXiv 2402.13753): a factor per dimension, one set for each length."""
    factors = rope.long_factor if max_len > _original(rope) else rope.short_factor
    stretched = torch.tensor(factors, dtype=torch.float32) * rope.theta ** _exponents(
        rope.rotary_dim
    )
    return 1.0 / stretched


def _longrope_scaling(rope: RopeRecipe) -> float:
    if rope.attention_factor is not None:
        return rope.attention_factor
    if rope.factor <= 1.0:
        return 1.0
    return math.sqrt(1 + math.log(rope.factor) / math.log(_original(rope)))
