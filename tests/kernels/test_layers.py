"""All layers in one call give the bits that they give one by one."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from paged_steps import PagedModel
from quire.kernels.batch import LayerCache
from quire.kernels.select import cpp_ops
from quire.kernels.table import LayerParts, Ops, RunLayers
from quire.models.decoder import Decoder
from quire.models.families import recipe_from_config
from quire.platform import native
from quire.quant.layouts import AT_LOAD
from quire.quant.layouts.layout import Dense
from quire.weights.dummy import fill_dummy

LIBRARY, _ = native.open_library()
SETS = [] if LIBRARY is None else native.usable_sets(LIBRARY.handle)
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
TOGETHER: dict[str, dict[str, Any]] = {
    "llama": {"architectures": ["LlamaForCausalLM"], "attention_bias": True, "mlp_bias": True},
    "qwen3": {"architectures": ["Qwen3ForCausalLM"]},
    "smollm3": {"architectures": ["SmolLM3ForCausalLM"], "no_rope_layers": [1, 0, 1]},
    "gemma2": {
        "architectures": ["Gemma2ForCausalLM"],
        "sliding_window": 20,
        "query_pre_attn_scalar": 24,
        "attn_logit_softcapping": 5.0,
    },
}
ONE_BY_ONE: dict[str, dict[str, Any]] = {
    "layer norms": {"architectures": ["GPTNeoXForCausalLM"], "use_parallel_residual": False},
    "norms of whole projections": {"architectures": ["Olmo2ForCausalLM"]},
    "multipliers": {"architectures": ["GraniteForCausalLM"], "residual_multiplier": 0.4},
    "a plain MLP": {"architectures": ["Starcoder2ForCausalLM"]},
    "experts": {
        "architectures": ["MixtralForCausalLM"],
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
    },
    "small heads": {"architectures": ["LlamaForCausalLM"], "head_dim": 16},
}


def decoder(
    config: dict[str, Any], ops: Ops, quantization: str = "", dtype: torch.dtype = torch.bfloat16
) -> Decoder:
    layouts = AT_LOAD[quantization] if quantization else (Dense, Dense)
    recipe = recipe_from_config(SIZES | config)
    model = Decoder(recipe, ops, dtype, torch.device("cpu"), 256, *layouts)
    fill_dummy(model)
    return model


def watched(ops: Ops) -> tuple[Ops, list[bool]]:
    """The ops, and for each run of layers that the op is asked for whether it takes it."""
    taken: list[bool] = []

    def layers(parts: Sequence[LayerParts], caches: Sequence[LayerCache]) -> RunLayers | None:
        assert ops.layers is not None
        run = ops.layers(parts, caches)
        taken.append(run is not None)
        return run

    return replace(ops, layers=layers), taken


def steps(model: Decoder, dtype: torch.dtype = torch.bfloat16) -> list[Tensor]:
    """Logits of prompts, chunks and decoding, alone and together; then the pages."""
    noise = torch.Generator().manual_seed(3)
    paged = PagedModel(model, max_len=256)
    paged.caches = [(k.to(dtype), v.to(dtype)) for k, v in paged.caches]

    def ids(count: int) -> list[int]:
        return torch.randint(0, 131, (count,), generator=noise).tolist()

    work = [[(0, 5)], [(1, 70), (0, 1), (2, 133)], [(0, 1)], [(0, 1), (1, 1), (2, 1), (3, 40)]]
    made = [
        logits for step in work for logits in paged.step([(row, ids(count)) for row, count in step])
    ]
    return made + [pages for cache in paged.caches for pages in cache]


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("quantization", ["", "int8", "int4"])
@pytest.mark.parametrize("family", TOGETHER)
def test_the_same_bits(kernels: Ops, family: str, quantization: str) -> None:
    together, taken = watched(kernels)
    found = steps(decoder(TOGETHER[family], together, quantization))
    assert taken == [True]
    expected = steps(decoder(TOGETHER[family], replace(kernels, layers=None), quantization))
    assert all(a.isfinite().all() for a in expected)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.skipif(not SETS, reason="there are no C++ kernels")
@pytest.mark.parametrize("kind", ONE_BY_ONE)
def test_what_is_of_another_kind_runs_one_by_one(kind: str) -> None:
    assert LIBRARY is not None
    together, taken = watched(cpp_ops(LIBRARY, "test"))
    assert all(logits.isfinite().all() for logits in steps(decoder(ONE_BY_ONE[kind], together)))
    assert not any(taken)


@pytest.mark.skipif(not SETS, reason="there are no C++ kernels")
@pytest.mark.parametrize(
    ("values", "pages"),
    [(torch.float32, torch.float32), (torch.bfloat16, torch.float8_e4m3fn)],
    ids=["fp32", "pages of 8 bits"],
)
def test_other_dtypes_run_one_by_one(values: torch.dtype, pages: torch.dtype) -> None:
    assert LIBRARY is not None
    together, taken = watched(cpp_ops(LIBRARY, "test"))
    steps(decoder(TOGETHER["llama"], together, dtype=values), pages)
    assert taken == [False]
