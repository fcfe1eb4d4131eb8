"""A decode step in one call gives the tokens, log-probabilities and pages of one in many."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from quire.core.plan import PageDelta, RowStart, StepPlan, StepResult
from quire.core.sampling_params import SamplingParams
from quire.kernels.select import cpp_ops
from quire.kernels.table import Ops
from quire.models.decoder import Decoder
from quire.models.families import recipe_from_config
from quire.platform import native
from quire.platform.detect import detect
from quire.quant.layouts import AT_LOAD
from quire.quant.layouts.layout import Dense
from quire.runner import kv_cache
from quire.runner.rows import DeviceRows
from quire.runner.runner import Runner
from quire.weights.dummy import fill_dummy

LIBRARY, _ = native.open_library()
SETS = [] if LIBRARY is None else native.usable_sets(LIBRARY.handle)
CAPS = detect("cpu")
PAGE, ROWS, LENGTH = 8, 4, 64
SIZES = {
    "vocab_size": 131,
    "hidden_size": 104,
    "intermediate_size": 152,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen3": {"architectures": ["Qwen3ForCausalLM"], "tie_word_embeddings": True},
    "llama": {"architectures": ["LlamaForCausalLM"], "tie_word_embeddings": False},
    "gemma3": {  # two KV groups, embeddings times a number, one more in norms
        "architectures": ["Gemma3ForCausalLM"],
        "sliding_window": 12,
        "sliding_window_pattern": 2,
        "query_pre_attn_scalar": 24,
    },
}
PLAIN = (
    SamplingParams(temperature=0.0),
    SamplingParams(temperature=0.9, top_k=30, top_p=0.9),
    SamplingParams(temperature=1.5, min_p=0.01),
)
WITH_LOGPROBS = (*PLAIN[:2], SamplingParams(temperature=0.7, logprobs=3))


def plans(params: tuple[SamplingParams, ...]) -> Iterator[StepPlan]:
    """Three prompts, then steps of all of them, of two, and of one; pages as they need them."""
    lengths = {2: 5, 0: 16, 3: 11}
    starts, pages, free = [], [], iter(range(1, 99))

    def assigned(row: int, first: int, end: int) -> list[PageDelta]:
        columns = range(-(-first // PAGE), -(-end // PAGE))
        return [PageDelta(g, row, c, [next(free)]) for c in columns for g in range(2)]

    for (row, n), one in zip(lengths.items(), params, strict=True):
        starts.append(RowStart(row, [(7 * i + row) % 131 for i in range(n)], n, one, row, ()))
        pages += assigned(row, 0, n)
    rows = list(lengths)
    yield StepPlan(0, starts, pages, rows, list(lengths.values()), [0] * 3, [True] * 3)
    for step in range(1, 30):
        rows = rows if step < 15 else [3, 2] if step < 25 else [2]
        computed = [lengths[row] for row in rows]
        new = [delta for row, n in zip(rows, computed) for delta in assigned(row, n, n + 1)]
        yield StepPlan(step, [], new, rows, [1] * len(rows), computed, [True] * len(rows))
        for row in rows:
            lengths[row] += 1


def run(
    config: dict[str, Any], quantization: str, ops: Ops, params: tuple[SamplingParams, ...]
) -> tuple[list[StepResult], list[torch.Tensor]]:
    recipe = recipe_from_config(SIZES | config)
    layouts = AT_LOAD[quantization] if quantization else (Dense, Dense)
    model = Decoder(recipe, ops, torch.bfloat16, torch.device("cpu"), LENGTH, *layouts)
    fill_dummy(model)
    groups = recipe.kv_groups()
    rows = DeviceRows(ROWS, LENGTH, PAGE, groups, ops, CAPS)
    caches = kv_cache.allocate(groups, [99] * len(groups), PAGE, CAPS)
    runner = Runner(model, caches, rows, ops, 131, CAPS)
    results = []
    for plan in plans(params):
        plan.pages = [delta for delta in plan.pages if delta.group < len(groups)]
        results.append(runner.submit(plan).result())
    return results, [rows.tokens, *(pages for cache in caches for pages in cache)]


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("params", [PLAIN, WITH_LOGPROBS], ids=["plain", "logprobs"])
@pytest.mark.parametrize("quantization", ["", "int8", "int4"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_in_one_call(
    kernels: Ops, family: str, quantization: str, params: tuple[SamplingParams, ...]
) -> None:
    calls = []

    def decode(*given: Any) -> Any:
        assert kernels.decode is not None
        call = kernels.decode(*given)
        assert call is not None

        def counted(count: int) -> torch.Tensor:
            calls.append(count)
            return call.run(count)

        return replace(call, run=counted)

    config = FAMILIES[family]
    results, held = run(config, quantization, replace(kernels, decode=decode), params)
    assert calls == [3] * 14 + [2] * 10 + [1] * 5
    expected, held_then = run(config, quantization, replace(kernels, decode=None), params)
    assert results == expected
    assert len({ids[0] for result in results for ids in result.token_ids}) > 20
    assert all(torch.equal(a, b) for a, b in zip(held, held_then, strict=True))


@pytest.mark.skipif(not SETS, reason="there are no C++ kernels")
@pytest.mark.parametrize(
    "config",
    [
        {"architectures": ["Gemma2ForCausalLM"], "final_logit_softcapping": 30.0},
        {"architectures": ["GPTNeoXForCausalLM"], "use_parallel_residual": False},
    ],
    ids=["capped logits", "layer norms"],
)
def test_others_run_in_many_calls(config: dict[str, Any]) -> None:
    assert LIBRARY is not None
    results, _ = run(config, "", cpp_ops(LIBRARY, "test"), PLAIN)
    assert all(len(ids) == 1 for result in results for ids in result.token_ids)
