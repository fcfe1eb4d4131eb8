"""A model over pages against transformers' with the same weights."""

from typing import Any

import torch
from torch import Tensor

from paged_steps import PagedModel


def prompt(length: int, seed: int) -> list[int]:
    """Random token ids."""
    noise = torch.Generator().manual_seed(1000 * seed + length)
    return torch.randint(0, 131, (length,), generator=noise).tolist()


def reference_logits(reference: Any, ids: list[int]) -> Tensor:
    """transformers' logits [n, V] of one sequence."""
    with torch.inference_mode():
        return reference(torch.tensor([ids]), use_cache=False).logits[0]


def assert_close(ours: Tensor, theirs: Tensor, tolerance: float) -> None:
    """`tolerance`: of the largest logit."""
    worst = ((ours - theirs).abs().max() / theirs.abs().max()).item()
    assert worst <= tolerance, f"logits differ by {worst:.1e} of the largest"


def check_chunks(reference: Any, paged: PagedModel, tolerance: float) -> None:
    """A prompt seven tokens at a time."""
    ids = prompt(47, 2)
    chunks = [ids[i : i + 7] for i in range(0, len(ids), 7)]
    ours = torch.cat([paged.step([(0, chunk)])[0] for chunk in chunks])
    assert_close(ours, reference_logits(reference, ids), tolerance)


def check_greedy(reference: Any, paged: PagedModel, num_tokens: int, tolerance: float) -> None:
    """The likeliest tokens after a prompt, beside a prefill of one token a step."""
    ids, other = prompt(21, 3), prompt(num_tokens, 4)
    (logits,) = paged.step([(1, ids)])
    steps = [logits[-1:]]
    for step in range(num_tokens):
        ids = [*ids, int(steps[-1].argmax())]
        decoded, _ = paged.step([(1, ids[-1:]), (3, other[step : step + 1])])
        steps.append(decoded)
    theirs = reference_logits(reference, ids)[20:]
    assert_close(torch.cat(steps), theirs, tolerance)
    assert ids[21:] == theirs[:-1].argmax(-1).tolist()
