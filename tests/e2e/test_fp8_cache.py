"""Keys and values in 8 bits: close to the model's own dtype, and the same whatever the batch, the
chunks, the cache and the memory."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from quire import LLM, SamplingParams
from quire.core.errors import CheckpointError
from tiny_models import save_tiny_model

TEXTS = [
    "The capital of South Korea is Seoul. The capital of France is",
    "Water boils at a hundred degrees. Ice melts at zero.",
    "Once upon a time a fox met a crow that sat on a tree with a piece of cheese in its beak.",
]
PROMPTS = [[3 + (7 * i * i + 11 * i + n) % 120 for i in range(n)] for n in (5, 17, 33, 40)]
SCORES = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0, detokenize=False)
GREEDY = SamplingParams(temperature=0, max_tokens=20, ignore_eos=True, logprobs=0, detokenize=False)
SMALL: dict[str, Any] = {
    "skip_tokenizer_init": True,
    "dtype": "float32",
    "kv_cache_memory_bytes": 1 << 20,
}


def prompt_logprobs(llm: LLM, prompts: list[Any]) -> torch.Tensor:
    """Of every token but the first, all prompts one after the other."""
    found = []
    for output in llm.generate(prompts, SCORES, use_tqdm=False):
        rest = zip(output.prompt_token_ids[1:], output.prompt_logprobs[1:], strict=True)
        found += [entry[token].logprob for token, entry in rest]
    return torch.tensor(found)


@pytest.mark.parametrize(
    ("kv_cache_dtype", "most"), [("fp8", 0.2), ("fp8_e4m3", 0.2), ("fp8_e5m2", 0.4)]
)
def test_close_to_bfloat16(kv_cache_dtype: str, most: float) -> None:
    options: dict[str, Any] = {"dtype": "bfloat16", "kv_cache_memory_bytes": 8 << 20}
    with LLM(**options) as llm:
        expected, tokens = prompt_logprobs(llm, TEXTS), math.prod(num_pages(llm))
    with LLM(**options, kv_cache_dtype=kv_cache_dtype) as llm:
        actual = prompt_logprobs(llm, TEXTS)
        assert math.prod(num_pages(llm)) == 2 * tokens
    assert 0 < (actual - expected).abs().mean() < most


def num_pages(llm: LLM) -> tuple[int, ...]:
    return llm.model_info.num_pages


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_the_same_however_it_is_computed(name: str, tmp_path: Path) -> None:
    save_tiny_model(name, tmp_path)

    def generate(times: int = 1, **options: Any) -> tuple[list[list[int]], torch.Tensor, int]:
        """-> (tokens, their log-probabilities, cached tokens) of the last time."""
        options = SMALL | {"kv_cache_dtype": "fp8"} | options
        with LLM(str(tmp_path), **options) as llm:
            for _ in range(times):
                prompts = [{"prompt_token_ids": p} for p in PROMPTS]
                outputs = llm.generate(prompts, GREEDY, use_tqdm=False)
        tokens = [output.outputs[0].token_ids for output in outputs]
        logprobs = [
            entry[token].logprob
            for output in outputs
            for token, entry in zip(output.outputs[0].token_ids, output.outputs[0].logprobs)
        ]
        return tokens, torch.tensor(logprobs), sum(o.num_cached_tokens for o in outputs)

    tokens, logprobs, cached = generate(max_num_seqs=1, enable_prefix_caching=False)
    assert cached == 0
    for options in (
        {},
        {"max_num_batched_tokens": 7, "max_num_seqs": 4},
        {"times": 2},
        {"num_gpu_blocks_override": 7, "max_num_seqs": 6, "max_num_batched_tokens": 16},
    ):
        again, values, cached = generate(**options)
        assert again == tokens
        torch.testing.assert_close(
            values, logprobs, atol=1e-2, rtol=0
        )  # a key may be rounded the other way
        assert cached > 0 or "times" not in options


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_scales_of_the_checkpoint(name: str, tmp_path: Path) -> None:
    """The same model with keys and values 4000 times as large: beyond 8 bits without scales."""
    save_tiny_model(name, tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    prompts = [{"prompt_token_ids": p} for p in PROMPTS]

    def scores(**options: Any) -> torch.Tensor:
        with LLM(str(tmp_path), **SMALL, **options) as llm:
            return prompt_logprobs(llm, prompts)

    expected, fp8 = scores(), scores(kv_cache_dtype="fp8")
    large, small = ("k_norm", "q_norm") if name == "qwen3" else ("k_proj", "q_proj")
    for tensor, factor in (
        (large, 4000),
        (small, 1 / 4000),
        ("v_proj", 4000),
        ("o_proj", 1 / 4000),
    ):
        for key in tensors:
            if tensor in key:
                tensors[key] *= factor
    save_file(tensors, file)
    assert (scores(kv_cache_dtype="fp8") - expected).abs().mean() > 0.3
    for layer in range(3):
        part = f"model.layers.{layer}.self_attn"
        tensors[f"{part}.k_proj.k_scale" if layer else f"{part}.k_scale"] = torch.tensor(4000.0)
        tensors[f"{part}.v_proj.v_scale"] = torch.tensor([4000.0])
    save_file(tensors, file)
    torch.testing.assert_close(scores(), expected, atol=1e-2, rtol=0)
    close = (scores(kv_cache_dtype="fp8") - expected).abs().mean()
    assert 0 < close < 2 * (fp8 - expected).abs().mean()
    tensors["model.layers.1.self_attn.k_scale"] = torch.tensor(-1.0)
    save_file(tensors, file)
    with pytest.raises(CheckpointError, match=r"layers\.1\.self_attn\.k_scale .* is no scale"):
        scores(kv_cache_dtype="fp8")
