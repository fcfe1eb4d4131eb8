"""Sampling in plain torch, a row at a time with a full sort: what the fast versions must equal.

Order, with z = logits / temperature:

1. min_p keeps tokens whose probability is at least min_p times the largest one's; top_k keeps
   those that are at least the k-th largest. Both are thresholds on z.
2. top_p, over what is left and renormalised, keeps the smallest set of most likely tokens whose
   probability reaches top_p.
3. The token is argmax(z + Gumbel noise), which is a draw from softmax(z) of what is kept.

A filter never splits a tie: all tokens equal to the last one kept are kept. The most likely
token is always kept. A temperature below 1e-5 means greedy: the largest logit, filters and
noise aside. The lowest token id wins among equals. A row is not a number, and gives -1, if it
holds a NaN or +inf or nothing but -inf.
"""

import torch
from torch import Tensor

from quire.kernels.sample.noise import gumbel, random_bits
from quire.kernels.sample.numbers import GREEDY_BELOW, NOT_A_NUMBER
from quire.kernels.table import DrawNumbers


def keep(z: Tensor, top_k: int, top_p: float, min_p: float) -> Tensor:
    """z [V] fp32, scaled logits -> mask [V] of the tokens that pass the filters."""
    kept = z > float("-inf")
    if min_p > 0.0:
        kept &= z >= z.max() + torch.log(z.new_tensor(min_p))
    if 0 < top_k < z.numel():
        kept &= z >= z.sort(descending=True).values[top_k - 1]
    if top_p < 1.0:
        mass = torch.where(kept, torch.exp(z - z.max()), 0.0).double()
        values, order = z.sort(descending=True)
        above = mass[order].cumsum(0) - mass[order]  # of all tokens before this one
        # The smallest set holds a token if the mass of those strictly larger is short of top_p.
        above = above[torch.searchsorted(-values, -z)]  # [V], of the first of its equals
        kept &= (above < top_p * mass.sum()) | (z == z.max())
    return kept


def sample(logits: Tensor, numbers: DrawNumbers) -> Tensor:
    """Draw a token per row.

    logits [S, V] fp32 or 16-bit (penalties, biases and masks applied; -inf allowed) -> [S] int64,
    -1 where a row is not a number.
    """
    temperature, top_k, top_p, min_p, seed, positions = numbers
    noise = gumbel(random_bits(seed, positions, logits.shape[1]))
    tokens = torch.full((logits.shape[0],), NOT_A_NUMBER, dtype=torch.int64, device=logits.device)
    for i, row in enumerate(logits):
        if not torch.isfinite(row.max()):
            continue
        if temperature[i] < GREEDY_BELOW:
            tokens[i] = row.argmax()
            continue
        z = row.float() / temperature[i]
        kept = keep(z, int(top_k[i]), float(top_p[i]), float(min_p[i]))
        tokens[i] = torch.where(kept, z + noise[i], float("-inf")).argmax()
    return tokens
