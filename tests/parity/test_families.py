"""Every family against transformers: same weights, same logits, however the tokens arrive."""

import copy

import pytest
import torch

from paged_steps import PagedModel
from tiny_models import SHORTEST_PROMPT, tiny_models
from transformers_parity import (
    assert_close,
    check_chunks,
    check_greedy,
    prompt,
    reference_logits,
)

FAMILIES = list(tiny_models())
# Of the largest logit. The worst seen is 2e-6 (x86 CPU, torch 2.13, 2026-11); the smallest effect
# of a wrong recipe field that the models were made to show, gelu for its tanh form, is 3e-5.
TOLERANCE = 2e-5
PAGE_SIZES = (16, 32)


@pytest.mark.parametrize("page_size", PAGE_SIZES)
@pytest.mark.parametrize("name", FAMILIES)
class TestParity:
    def test_one_prompt(self, tiny, name: str, page_size: int) -> None:
        reference, model = tiny(name)
        ids = prompt(45, 0)
        (ours,) = PagedModel(model, page_size).step([(2, ids)])
        theirs = reference_logits(reference, ids)
        assert theirs.std() > 0.1  # logits that say something
        assert_close(ours, theirs, TOLERANCE)

    def test_mixed_lengths_in_one_step(self, tiny, name: str, page_size: int) -> None:
        reference, model = tiny(name)
        shortest = SHORTEST_PROMPT.get(name, 1)
        prompts = [prompt(max(n, shortest), 1) for n in (33, 1, 18, 50)]
        order = (3, 0, 2, 1)
        ours = PagedModel(model, page_size).step([(row, prompts[row]) for row in order])
        for row, logits in zip(order, ours):
            assert_close(logits, reference_logits(reference, prompts[row]), TOLERANCE)

    def test_only_the_last_tokens_are_wanted(self, tiny, name: str, page_size: int) -> None:
        reference, model = tiny(name)
        paged = PagedModel(model, page_size)
        for chunk in (slice(25), slice(25, 33)):  # the second sees every layer's keys of the first
            prompts = [prompt(33, 5), prompt(33, 6)]
            ours = paged.step([(row, prompts[row][chunk]) for row in (1, 0)], last_alone=True)
            for row, logits in zip((1, 0), ours):
                theirs = reference_logits(reference, prompts[row][: chunk.stop])[-1:]
                assert_close(logits, theirs, TOLERANCE)

    def test_chunks_of_seven(self, tiny, name: str, page_size: int) -> None:
        reference, model = tiny(name)
        check_chunks(reference, PagedModel(model, page_size), TOLERANCE)

    def test_greedy_decode_beside_a_prefill(self, tiny, name: str, page_size: int) -> None:
        reference, model = tiny(name)
        check_greedy(reference, PagedModel(model, page_size), 20, TOLERANCE)


@pytest.mark.parametrize("name", FAMILIES)
def test_bfloat16_is_as_near_to_fp32_as_transformers_is(tiny, name: str) -> None:
    reference, model = tiny(name, torch.bfloat16)
    rounded = copy.deepcopy(reference).to(torch.bfloat16)
    ours, theirs = [], []
    for seed in range(4):
        ids = prompt(45, seed)
        exact = reference_logits(reference, ids)
        (logits,) = PagedModel(model).step([(0, ids)])
        assert logits.dtype == model.logits_dtype
        ours.append((logits.float() - exact).abs().mean().item())
        theirs.append((reference_logits(rounded, ids) - exact).abs().mean().item())
    # The least of four prompts: rounding may route a token to other experts, in either model.
    assert min(ours) <= 1.2 * min(theirs)
