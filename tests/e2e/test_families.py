"""Every family through the whole engine: the tokens and log-probabilities are transformers' own.

The checkpoint is one that transformers saved; the tokens must be equal one for one, whatever
the batch, the chunks, the cache, the memory and the page size.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from quire import LLM, SamplingParams
from quire.models.families import recipe_from_config
from tiny_models import LONGEST_SEQUENCE, SHORTEST_PROMPT, save_tiny_model, tiny_models

LENGTHS = (5, 17, 33, 40, 16, 9)
NEW_TOKENS = 64
CONDITIONS: dict[str, dict[str, Any]] = {
    "alone": {"max_num_seqs": 1, "enable_prefix_caching": False},
    "batch": {},
    "chunks_of_7": {"max_num_batched_tokens": 7, "max_num_seqs": 4},
    "one_step_ahead": {"async_steps": 1},
    "preempted": {"max_num_batched_tokens": 16, "max_num_seqs": 6, "async_steps": 1},
}


@dataclass(frozen=True)
class Expected:
    """A tiny checkpoint, prompts, and what transformers makes of them in fp32."""

    folder: Path
    max_model_len: int | None
    windowed: bool  # no layer has full attention
    prompts: list[list[int]]
    tokens: list[list[int]]
    logprobs: list[torch.Tensor]  # [new tokens, V] each
    tolerance: float  # 1e-4 of the largest logit


@pytest.fixture(scope="module", params=sorted(tiny_models()))
def expected(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Expected:
    name = request.param
    folder = tmp_path_factory.mktemp(name)
    model = save_tiny_model(name, folder)
    longest = LONGEST_SEQUENCE.get(name)
    room = (longest or 128) - 1
    rng = random.Random(name)
    lengths = [max(n, SHORTEST_PROMPT.get(name, 1)) for n in LENGTHS]
    prompts = [[rng.randrange(3, 130) for _ in range(n)] for n in lengths]
    tokens, logprobs, largest = [], [], 0.0
    for prompt in prompts:
        ids = model.generate(
            torch.tensor([prompt]),
            do_sample=False,
            max_new_tokens=min(NEW_TOKENS, room - len(prompt)),
            eos_token_id=None,
            pad_token_id=0,
        )
        with torch.inference_mode():
            logits = model(ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
        tokens.append(ids[0, len(prompt) :].tolist())
        logprobs.append(torch.log_softmax(logits.float(), -1))
        largest = max(largest, logits.abs().max().item())
    recipe = recipe_from_config(json.loads((folder / "config.json").read_text()))
    windowed = all(group.window is not None for group in recipe.kv_groups())
    return Expected(folder, longest, windowed, prompts, tokens, logprobs, 1e-4 * largest)


@pytest.fixture(params=[16, 32], ids=["page16", "page32"])
def page_size(request: pytest.FixtureRequest) -> Iterator[int]:
    return request.param


def load(expected: Expected, page_size: int, **options: Any) -> LLM:
    return LLM(
        model=str(expected.folder),
        skip_tokenizer_init=True,
        dtype="float32",
        max_model_len=expected.max_model_len,
        block_size=page_size,
        kv_cache_memory_bytes=32 << 20,
        **options,
    )


def few_pages(expected: Expected, page_size: int) -> int:
    """Pages that hold one of the longest sequences and nearly, but not quite, two."""
    if expected.windowed:
        return 5
    longest = max(len(p) + len(t) for p, t in zip(expected.prompts, expected.tokens))
    return 2 * -(-longest // page_size) - 1


def check(llm: LLM, expected: Expected, count: int = len(LENGTHS)) -> list[int]:
    """Generate for the first `count` prompts, compare, and return how many tokens of each came
    from the cache."""
    params = [
        SamplingParams(
            temperature=0, max_tokens=len(t), ignore_eos=True, logprobs=3, detokenize=False
        )
        for t in expected.tokens[:count]
    ]
    prompts = [{"prompt_token_ids": p} for p in expected.prompts[:count]]
    outputs = llm.generate(prompts, params, use_tqdm=False)
    assert len(outputs) == count
    for output, tokens, logprobs in zip(outputs, expected.tokens, expected.logprobs):
        made = output.outputs[0]
        assert list(made.token_ids) == tokens
        assert made.finish_reason == "length"
        assert made.logprobs is not None
        for position, entries in enumerate(made.logprobs):
            assert tokens[position] in entries
            for token, entry in entries.items():
                want = logprobs[position, token].item()
                assert entry.logprob == pytest.approx(want, abs=expected.tolerance)
    return [output.num_cached_tokens or 0 for output in outputs]


@pytest.mark.parametrize("condition", CONDITIONS)
def test_tokens_are_those_of_transformers(
    expected: Expected, page_size: int, condition: str
) -> None:
    options = CONDITIONS[condition]
    if condition == "preempted":
        options = {**options, "num_gpu_blocks_override": few_pages(expected, page_size)}
    with load(expected, page_size, **options) as llm:
        check(llm, expected, 2 if condition == "alone" else len(LENGTHS))
        # A sequence that only looks through windows never needs more pages than it was let in with.
        if condition == "preempted" and not expected.windowed:
            assert llm.stats().num_preemptions > 0


def test_repeated_prompts_come_from_the_cache(expected: Expected, page_size: int) -> None:
    with load(expected, page_size) as llm:
        assert check(llm, expected) == [0] * len(LENGTHS)
        whole_pages = [(len(p) - 1) // page_size * page_size for p in expected.prompts]
        assert check(llm, expected) == whole_pages
