"""Vectors through the whole engine: pooled final hidden states are transformers' own."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from quire import LLM, PoolingParams, SamplingParams
from quire.core.errors import ConfigError, NotYetSupportedError, PromptTooLongError, RequestError
from tiny_models import save_tiny_model

LENGTHS = (5, 40, 1, 33, 16, 17, 100, 3)
FAMILIES = ("llama", "qwen2", "qwen3", "mistral")  # mistral has a sliding window
POOLINGS = ("last", "mean", "cls")
CONDITIONS: dict[str, dict[str, Any]] = {
    "batch": {},
    "chunks_of_7": {"max_num_batched_tokens": 7, "max_num_seqs": 4},
    "one_step_ahead": {"async_steps": 1, "max_num_batched_tokens": 24},
    "few_pages": {"num_gpu_blocks_override": 9, "max_num_batched_tokens": 16, "async_steps": 1},
}


class Tiny:
    """A checkpoint, prompts, and the hidden states that transformers computes for them."""

    def __init__(self, name: str, folder: Path) -> None:
        model = save_tiny_model(name, folder)
        self.folder = str(folder)
        self.windowed = name == "mistral"
        rng = random.Random(name)
        self.prompts = [[rng.randrange(3, 130) for _ in range(n)] for n in LENGTHS]
        with torch.inference_mode():
            self.hidden = [
                model.model(torch.tensor([p]), use_cache=False).last_hidden_state[0]
                for p in self.prompts
            ]

    def vector(self, index: int, pooling: str) -> torch.Tensor:
        states = self.hidden[index]
        return {"last": states[-1], "cls": states[0], "mean": states.mean(0)}[pooling]

    def load(self, **options: Any) -> LLM:
        options = {"kv_cache_memory_bytes": 8 << 20, "max_num_seqs": 8, **options}
        return LLM(
            model=self.folder,
            skip_tokenizer_init=True,
            dtype="float32",
            max_model_len=128,
            use_tqdm_on_load=False,
            **options,
        )


@pytest.fixture(scope="module", params=FAMILIES)
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return Tiny(request.param, tmp_path_factory.mktemp(request.param))


def close(vector: Any, expected: torch.Tensor) -> None:
    torch.testing.assert_close(torch.as_tensor(vector), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_vectors_are_those_of_transformers(tiny: Tiny, condition: str) -> None:
    """All three poolings in one batch, raw and normalised, twice: the second time the prefix
    cache may help, and must not change anything."""
    with tiny.load(**CONDITIONS[condition]) as llm:
        kinds = [POOLINGS[i % 3] for i in range(len(LENGTHS))]
        raw = [PoolingParams(pooling=kind, normalize=False) for kind in kinds]
        for _ in range(2):
            outputs = llm.encode(tiny.prompts, raw, use_tqdm=False)
            for i, output in enumerate(outputs):
                close(output.outputs.data, tiny.vector(i, kinds[i]))
                assert output.prompt_token_ids == tiny.prompts[i]
        for kind in POOLINGS:
            made = llm.embed(tiny.prompts, PoolingParams(pooling=kind), use_tqdm=False)
            for i, output in enumerate(made):
                close(output.outputs.embedding, F.normalize(tiny.vector(i, kind), dim=0))
        stats = llm.stats()
        assert stats.kv_usage == 0.0
        assert stats.num_running == stats.num_waiting == 0


def test_only_last_token_pooling_uses_the_prefix_cache(tiny: Tiny) -> None:
    with tiny.load() as llm:
        cached = {}
        for kind in ("last", "last", "mean", "cls"):
            output = llm.embed([tiny.prompts[6]], PoolingParams(pooling=kind), use_tqdm=False)[0]
            cached[kind] = output.num_cached_tokens
            close(output.outputs.embedding, F.normalize(tiny.vector(6, kind), dim=0))
        assert cached == {"last": 96, "mean": 0, "cls": 0}


@pytest.mark.parametrize("async_steps", [0, 1])
def test_among_generating_requests(tiny: Tiny, async_steps: int) -> None:
    """A batch of both kinds, chunked and short of pages: the tokens and the vectors are those of
    each alone."""
    params = SamplingParams(temperature=0, max_tokens=27, ignore_eos=True, detokenize=False)
    options = {"max_num_batched_tokens": 16, "num_gpu_blocks_override": 16}
    with tiny.load(async_steps=async_steps, **options) as llm:
        alone = [o.outputs[0].token_ids for o in llm.generate(tiny.prompts, params, use_tqdm=False)]
        tracker, engine = llm._tracker, llm._live()
        requests = []
        for i, prompt in enumerate(tiny.prompts):
            requests.append(tracker.prepare(prompt, params, request_id=f"g{i}"))
            mean = PoolingParams(pooling="mean", normalize=False)
            requests.append(tracker.prepare(prompt, mean, request_id=f"p{i}"))
        for request in requests:
            engine.add(tracker.start(request))
        while tracker.num_unfinished:
            tracker.process(engine.step().deltas)
        for i in range(len(alone)):
            generated, pooled = requests[2 * i].sequences[0], requests[2 * i + 1].sequences[0]
            assert generated.token_ids == alone[i]
            close(pooled.embedding, tiny.vector(i, "mean"))
            assert pooled.finish_reason == "stop"
            assert pooled.token_ids == []
        stats = llm.stats()
        assert stats.num_preemptions > 0 or tiny.windowed  # a window frees its pages as it moves
        assert stats.kv_usage == 0.0


# --- the offline API, on the model in the box ---


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with LLM(
        max_model_len=128, max_num_seqs=8, dtype="float32", kv_cache_memory_bytes=16 << 20
    ) as llm:
        yield llm


def test_dimensions_are_cut_before_normalising(llm: LLM) -> None:
    full = torch.tensor(llm.embed("a cat", use_tqdm=False)[0].outputs.embedding)
    assert full.shape == (llm.model_info.hidden_size,)
    assert full.norm().item() == pytest.approx(1.0, abs=1e-5)
    short = llm.embed("a cat", PoolingParams(dimensions=32), use_tqdm=False)[0].outputs
    assert short.hidden_size == 32
    close(short.embedding, F.normalize(full[:32], dim=0))


def test_score_is_the_cosine(llm: LLM) -> None:
    a, b, c = (
        torch.tensor(o.outputs.embedding) for o in llm.embed(["red", "blue", "a cat"], None, False)
    )
    scores = llm.score("red", ["red", "blue", "a cat"], use_tqdm=False)
    assert [s.outputs.score for s in scores] == pytest.approx(
        [1.0, float(a @ b), float(a @ c)], abs=1e-5
    )
    pairs = llm.score(["red", "blue"], ["a cat", "a cat"], use_tqdm=False)
    assert [s.outputs.score for s in pairs] == pytest.approx([float(a @ c), float(b @ c)], abs=1e-5)
    ids = [llm.get_tokenizer().encode(text) for text in ("red", "a cat")]
    assert pairs[0].prompt_token_ids == ids[0] + ids[1]


def test_every_form_of_prompt(llm: LLM) -> None:
    ids = llm.get_tokenizer().encode("a cat")
    forms: list[Any] = ["a cat", ids, {"prompt": "a cat"}, {"prompt_token_ids": ids}]
    vectors = [o.outputs.embedding for o in llm.embed(forms, use_tqdm=False)]
    for vector in vectors[1:]:
        close(vector, torch.tensor(vectors[0]))


def test_a_prompt_may_fill_the_whole_length(llm: LLM) -> None:
    prompt = [5 + i % 50 for i in range(128)]
    assert len(llm.embed([prompt], use_tqdm=False)[0].prompt_token_ids) == 128
    with pytest.raises(PromptTooLongError, match="129"):
        llm.embed([[*prompt, 5]], use_tqdm=False)
    for truncate, kept in ((-1, 128), (10, 10)):
        output = llm.embed([[*prompt, 5]], truncate_prompt_tokens=truncate, use_tqdm=False)[0]
        assert output.prompt_token_ids == [*prompt, 5][-kept:]


def test_the_models_own_pooling(llm: LLM) -> None:
    with LLM(pooling="mean", max_model_len=64, dtype="float32", kv_cache_memory_bytes=8 << 20) as b:
        mine = b.embed("a cat", use_tqdm=False)[0].outputs.embedding
    close(
        mine, torch.tensor(llm.embed("a cat", PoolingParams(pooling="mean"))[0].outputs.embedding)
    )


def test_wrong_parameters(llm: LLM) -> None:
    with pytest.raises(RequestError, match=r"dimensions must be at most the model's 256, got 257"):
        llm.embed("x", PoolingParams(dimensions=257))
    with pytest.raises(RequestError, match=r"prompt 1 of 2: the prompt is empty"):
        llm.embed(["x", []])
    with pytest.raises(RequestError, match="2 and 3"):
        llm.score(["a", "b"], ["a", "b", "c"])
    with pytest.raises(NotYetSupportedError, match="classify"):
        llm.encode("x", pooling_task="classify")
    with pytest.raises(ConfigError, match="pooling must be one of auto, last, mean, cls"):
        LLM(pooling="max")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pooling": "max"}, "pooling must be one of last, mean, cls, got 'max'"),
        ({"dimensions": 0}, "dimensions must be at least 1, got 0"),
        ({"dimensions": 1.5}, "dimensions must be an integer, got 1.5"),
        ({"truncate_prompt_tokens": -2}, "truncate_prompt_tokens must be at least -1, got -2"),
        ({"task": "cook"}, "task must be one of embed, score, got 'cook'"),
    ],
)
def test_pooling_params_check_their_ranges(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError) as error:
        PoolingParams(**fields)
    assert str(error.value) == message
