"""Log-probabilities of chosen tokens, the most likely ones, and ranks, without waiting.

They come from the model's own logits: no temperature, penalty, mask or bias.
"""

import torch
from torch import Tensor

from quire.core.plan import TokenLogprobs

WHOLE_VOCABULARY = -1


class LogprobTensors:
    """Of n tokens: each one's log-probability, then those of the k most likely, best first.

    Args:
        token_ids: [n, 1 + k] int64.
        logprobs: [n, 1 + k] fp32.
        ranks: [n] int64, 1 + the number of tokens that are strictly more likely.
        num_top: how many of the k each of the n asked for.
    """

    def __init__(
        self, token_ids: Tensor, logprobs: Tensor, ranks: Tensor, num_top: tuple[int, ...]
    ) -> None:
        self.token_ids, self.logprobs, self.ranks = token_ids, logprobs, ranks
        self.num_top = num_top
        # On a GPU the copies, to pinned memory, are queued and not awaited.
        self._host = [x.to("cpu", non_blocking=True) for x in (token_ids, logprobs, ranks)]

    def to_host(self) -> list[TokenLogprobs]:
        """One `TokenLogprobs` each, cut to what it asked for.

        The caller has waited for the device to reach the point where this was built.
        """
        token_ids, logprobs, ranks = (tensor.tolist() for tensor in self._host)
        return [
            TokenLogprobs(ids[: 1 + k], values[: 1 + k], rank)
            for ids, values, rank, k in zip(token_ids, logprobs, ranks, self.num_top, strict=True)
        ]


def raw_logprobs(logits: Tensor) -> Tensor:
    """[n, V] fp32, to be taken before the logits are changed."""
    return torch.log_softmax(logits, dim=-1, dtype=torch.float32)


def pick(values: Tensor, targets: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """values [n, V], targets [n] (-1: none) -> token ids, logprobs [n, 1 + k], ranks [n]."""
    targets = targets.long().clamp(min=0).unsqueeze(1)
    chosen = values.gather(1, targets)
    ranks = (values > chosen).sum(dim=1) + 1
    if k == 0:
        return targets, chosen, ranks
    top = values.topk(k, dim=1)
    token_ids = torch.cat((targets, top.indices), dim=1)
    return token_ids, torch.cat((chosen, top.values), dim=1), ranks


def resolve_k(k: int, vocab_size: int) -> int:
    """-1 is the whole vocabulary, and no more than that can be had."""
    return vocab_size if k == WHOLE_VOCABULARY else min(k, vocab_size)


def prompt_logprobs(logits: Tensor, targets: Tensor, k: int, max_elements: int) -> LogprobTensors:
    """logits [n, V] and the tokens [n] that really came next; k as in `SamplingParams`."""
    num_lines, vocab_size = logits.shape
    k = resolve_k(k, vocab_size)
    group = max(1, max_elements // vocab_size)
    parts = [
        pick(raw_logprobs(some), their, k)
        for some, their in zip(logits.split(group), targets.split(group), strict=True)
    ]
    token_ids, logprobs, ranks = (torch.cat(part) for part in zip(*parts, strict=True))
    return LogprobTensors(token_ids, logprobs, ranks, (k,) * num_lines)
