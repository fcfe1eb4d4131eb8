"""Sampling in torch that does only the work the rows ask for.

Greedy rows cost one argmax. Filters are turned into one threshold per row from the largest few
logits, sorting a whole row only where top_p reaches further; where a threshold leaves few
tokens, noise is drawn for those alone. Reads sizes on the host, which on a GPU waits for it.
"""

import torch
from torch import Tensor

from quire.kernels.sample.noise import gumbel, random_bits, random_bits_at
from quire.kernels.sample.numbers import GREEDY_BELOW, NOT_A_NUMBER
from quire.kernels.table import DrawNumbers

CHUNK = 1 << 17  # logits drawn at a time: temporaries of 1 MiB or less stay in the cache
PREFIX = 1024  # top_p first looks at this many of the largest logits
SPARSE = 8  # noise for single tokens costs about this much more per token


def _thresholds(z: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor, prefix: int) -> Tensor:
    """z [S, V], filters [S] -> [S]: the smallest value of z that each row keeps."""
    vocab_size = z.shape[1]
    top = z.amax(-1)  # [S]
    threshold = top + torch.log(min_p)  # -inf where min_p is 0
    k_on, p_on = (top_k > 0) & (top_k < vocab_size), top_p < 1.0
    if not bool((k_on | p_on).any()):
        return threshold
    width = int(torch.where(k_on, top_k, torch.where(p_on, prefix, 1)).max())
    width = min(width, vocab_size)
    if width * 8 > vocab_size:
        width, values = vocab_size, z.sort(dim=-1, descending=True).values
    else:
        values = z.topk(width, dim=-1).values  # [S, width], largest first
    kth = values.gather(1, (top_k.long() - 1).clamp(0, width - 1).unsqueeze(1)).squeeze(1)
    threshold = torch.where(k_on, torch.maximum(threshold, kth), threshold)
    if not bool(p_on.any()):
        return threshold
    kept_mass = torch.exp(z - top[:, None]).masked_fill_(z < threshold[:, None], 0.0)
    goal = top_p.double() * kept_mass.sum(-1, dtype=torch.float64)  # [S]
    mass = torch.exp(values - top[:, None]).masked_fill_(values < threshold[:, None], 0.0)
    reached = mass.double().cumsum(-1)  # [S, width]
    count = ((reached - mass) < goal[:, None]).sum(-1).clamp(min=1)
    last = values.gather(1, (count - 1).unsqueeze(1)).squeeze(1)
    short = p_on & (reached[:, -1] < goal) & (values[:, -1] > threshold)
    if width < vocab_size and bool(short.any()):
        rows = short.nonzero().squeeze(1)
        last[rows] = _thresholds(z[rows], top_k[rows], top_p[rows], min_p[rows], vocab_size)
    return torch.where(p_on, torch.maximum(threshold, last), threshold)


def _draw(
    z: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor, seed: Tensor, positions: Tensor
) -> Tensor:
    """z [S, V], finite maximum in each row -> a token per row [S]."""
    vocab_size = z.shape[1]
    filtered = bool(((top_k > 0) & (top_k < vocab_size) | (top_p < 1.0) | (min_p > 0.0)).any())
    if not filtered:
        return (z + gumbel(random_bits(seed, positions, vocab_size))).argmax(-1)
    kept = z >= _thresholds(z, top_k, top_p, min_p, PREFIX)[:, None]
    rows, tokens = kept.nonzero(as_tuple=True)
    if rows.numel() * SPARSE > z.numel():
        scores = z + gumbel(random_bits(seed, positions, vocab_size))
        return scores.masked_fill_(~kept, float("-inf")).argmax(-1)
    bits = random_bits_at(seed[rows], positions[rows], tokens[:, None]).squeeze(1)
    scores = torch.full_like(z, float("-inf"))
    scores[rows, tokens] = z[rows, tokens] + gumbel(bits)
    return scores.argmax(-1)


def sample(logits: Tensor, numbers: DrawNumbers) -> Tensor:
    """As `reference.sample`."""
    temperature, top_k, top_p, min_p, seed, positions = numbers
    if logits.shape[0] == 0:
        return torch.empty(0, dtype=torch.int64, device=logits.device)
    top, tokens = logits.max(-1)  # a NaN is larger than all
    is_number = torch.isfinite(top)
    tokens = tokens.masked_fill(~is_number, NOT_A_NUMBER)
    drawn = ((temperature >= GREEDY_BELOW) & is_number).nonzero().squeeze(1)
    for rows in drawn.split(max(1, CHUNK // logits.shape[1])):
        z = logits[rows].float() / temperature[rows, None]
        tokens[rows] = _draw(z, top_k[rows], top_p[rows], min_p[rows], seed[rows], positions[rows])
    return tokens
