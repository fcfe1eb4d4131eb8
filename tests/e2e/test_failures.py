"""What goes wrong for one request costs no other its result."""

import random
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from quire import LLM, SamplingParams
from quire.core.errors import InsufficientMemoryError, QuireError, RequestError
from tiny_models import save_tiny_model

POISON = 77
OPTIONS = {"skip_tokenizer_init": True, "dtype": "float32", "kv_cache_memory_bytes": 32 << 20}


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in which one token's embedding is not a number."""
    folder = tmp_path_factory.mktemp("poisoned")
    save_tiny_model("llama", folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.embed_tokens.weight"][POISON] = torch.nan
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def greedy(count: int) -> SamplingParams:
    return SamplingParams(temperature=0, max_tokens=count, ignore_eos=True, detokenize=False)


def clean_prompts(count: int) -> list[list[int]]:
    rng = random.Random(0)
    ids = [i for i in range(3, 131) if i != POISON]
    return [[rng.choice(ids) for _ in range(rng.randint(3, 40))] for _ in range(count)]


@pytest.mark.parametrize("async_steps", [0, 1])
def test_not_a_number_fails_that_request_alone(poisoned: Path, async_steps: int) -> None:
    options = {**OPTIONS, "async_steps": async_steps}
    clean = clean_prompts(8)
    with LLM(model=str(poisoned), **options) as llm:
        want = [o.outputs[0].token_ids for o in llm.generate(clean, greedy(12), use_tqdm=False)]
    # Few pages, so that those the failed requests wrote are soon another's.
    with LLM(model=str(poisoned), num_gpu_blocks_override=12, **options) as llm:
        for _ in range(3):
            mixed = [p for prompt in clean for p in (prompt, [5, POISON, 9, 11])]
            outputs = llm.generate(mixed, greedy(12), use_tqdm=False)
            assert [o.outputs[0].token_ids for o in outputs[::2]] == want
            for output in outputs[1::2]:
                made = output.outputs[0]
                assert made.finish_reason == "error"
                assert made.error is not None
                assert "not a number" in made.error
                assert made.token_ids == []


def test_a_failing_logits_processor_fails_its_request_alone(poisoned: Path) -> None:
    def broken(token_ids: list[int], logits: torch.Tensor) -> torch.Tensor:
        if len(token_ids) == 3:
            raise ValueError("no idea")
        return logits

    params = [greedy(8) for _ in range(4)]
    params[1].logits_processors = [broken]
    with LLM(model=str(poisoned), **OPTIONS) as llm:
        outputs = llm.generate(clean_prompts(4), params, use_tqdm=False)
    assert [len(o.outputs[0].token_ids) for o in outputs] == [8, 3, 8, 8]
    error = outputs[1].outputs[0].error
    assert error is not None
    assert "no idea" in error


def test_bad_input_is_refused_before_anything_runs(poisoned: Path) -> None:
    with LLM(model=str(poisoned), max_model_len=64, **OPTIONS) as llm:
        for bad in ([], [131], [-1], list(range(3, 67))):
            with pytest.raises(RequestError):
                llm.generate([[5, 6], bad], greedy(4), use_tqdm=False)
        assert llm.stats().num_steps == 0
        assert len(llm.generate([[5, 6]], greedy(4), use_tqdm=False)[0].outputs[0].token_ids) == 4


def test_too_little_memory_for_one_sequence_names_the_numbers(poisoned: Path) -> None:
    options = {**OPTIONS, "model": str(poisoned), "kv_cache_memory_bytes": 40_000}
    with pytest.raises(InsufficientMemoryError, match=r"128 tokens.*max_model_len"):
        LLM(max_model_len=128, **options)
    # Not explicit: lowered to what fits, and it works.
    with LLM(**options) as llm:
        assert llm.model_info.max_model_len < 128
        assert len(llm.generate([[5, 6]], greedy(4), use_tqdm=False)[0].outputs[0].token_ids) == 4


def spoil(folder: Path, how: str) -> None:
    """Damage a checkpoint that has no tokenizer either."""
    config = folder / "config.json"
    weights = folder / "model.safetensors"
    match how:
        case "no weights":
            weights.unlink()
        case "truncated":
            weights.write_bytes(weights.read_bytes()[:-100_000])
        case "field missing":
            config.write_text(config.read_text().replace('"hidden_size"', '"hidden_sise"'))
        case "unknown architecture":
            config.write_text(config.read_text().replace("Llama", "Lama").replace("llama", "lama"))
        case "not JSON":
            config.write_text("{")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no weights", "no weight files"),
        ("truncated", r"model\.safetensors is truncated"),
        ("field missing", "'hidden_size' is missing"),
        ("unknown architecture", "nearest that runs is 'LlamaForCausalLM'"),
        ("not JSON", r"config\.json is not valid JSON"),
        ("nothing", "no tokenizer"),
    ],
)
def test_a_broken_model_is_named_before_its_tokenizer(
    poisoned: Path, tmp_path: Path, how: str, message: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(poisoned, folder)
    spoil(folder, how)
    with pytest.raises(QuireError, match=message) as raised:
        LLM(model=str(folder))
    assert "\n" not in str(raised.value)
