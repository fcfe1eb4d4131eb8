"""Sequences that share a prompt's beginning: the same tokens as each by itself."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from quire import LLM, SamplingParams
from quire.kernels.attention.shared import plan_tiles
from quire.runner import graphs, prefixes
from tiny_models import save_tiny_model

PREFIX = [3 + (7 * i * i + 5 * i) % 120 for i in range(64)]
PROMPTS = [PREFIX + [3 + (11 * i + n) % 120 for i in range(n)] for n in (1, 2, 9, 17, 30)]
GREEDY = SamplingParams(temperature=0, max_tokens=24, ignore_eos=True, detokenize=False)
DEADLINE = 30.0


def test_tokens_are_those_of_each_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefixes, "WORTH", 64)
    planned = []

    def noted(*args: Any) -> Any:
        planned.append(args)
        return plan_tiles(*args)

    monkeypatch.setattr(graphs.shared, "plan_tiles", noted)
    save_tiny_model("llama", tmp_path)

    def generate(llm: LLM, prompts: list[list[int]]) -> list[list[int]]:
        given = [{"prompt_token_ids": prompt} for prompt in prompts]
        outputs = llm.generate(given, GREEDY, use_tqdm=False)
        return [output.outputs[0].token_ids for output in outputs]

    small: dict[str, Any] = {
        "dtype": "float32",
        "kv_cache_memory_bytes": 1 << 20,
        "skip_tokenizer_init": True,
    }
    with LLM(str(tmp_path), enforce_eager=True, enable_prefix_caching=False, **small) as llm:
        expected = [generate(llm, [prompt])[0] for prompt in PROMPTS]
    with LLM(str(tmp_path), **small) as llm:
        began = time.monotonic()
        while True:
            assert generate(llm, PROMPTS) == expected
            if planned or not torch.cuda.is_available():  # a CPU has no graphs
                break
            assert time.monotonic() - began < DEADLINE
