"""resolve(): the value of every "auto", and what it refuses."""

import pytest

from quire.core.config import engine_config
from quire.core.errors import ConfigError
from quire.planner.resolve import ModelFacts, Resolved, resolve
from quire.platform.caps import DeviceCaps

GIB = 1 << 30
CPU = DeviceCaps("cpu", 0, "Some CPU", 16 * GIB, 8 * GIB, 2)
HOPPER = DeviceCaps("cuda", 0, "NVIDIA H200", 141 * GIB, 140 * GIB, 132, (9, 0), True, True)
TURING = DeviceCaps("cuda", 1, "Tesla T4", 16 * GIB, 15 * GIB, 40, (7, 5), False, True)
BF16 = ModelFacts("bfloat16", 4096)


def run(caps: DeviceCaps = CPU, facts: ModelFacts = BF16, **options: object) -> Resolved:
    return resolve(engine_config(**options), facts, caps)


@pytest.mark.parametrize(
    ("caps", "stored", "expected"),
    [
        (HOPPER, "bfloat16", "bfloat16"),
        (HOPPER, "float16", "float16"),
        (HOPPER, "float32", "bfloat16"),
        (TURING, "bfloat16", "float16"),
        (TURING, "float16", "float16"),
        (TURING, "float32", "float16"),
        (CPU, "bfloat16", "bfloat16"),
        (CPU, "float16", "bfloat16"),
        (CPU, "float32", "float32"),
        (CPU, "float64", "float32"),
        (HOPPER, "float64", "bfloat16"),
    ],
)
def test_auto_dtype(caps: DeviceCaps, stored: str, expected: str) -> None:
    assert run(caps, ModelFacts(stored, 4096)).dtype == expected


@pytest.mark.parametrize(
    ("asked", "expected"),
    [("half", "float16"), ("float", "float32"), ("float32", "float32"), ("bfloat16", "bfloat16")],
)
def test_given_dtype(asked: str, expected: str) -> None:
    assert run(dtype=asked).dtype == expected


def test_bfloat16_on_an_old_gpu_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Tesla T4 has 7\.5; use dtype='half'"):
        run(TURING, dtype="bfloat16")


@pytest.mark.parametrize(
    ("caps", "asked", "expected"),
    [
        (HOPPER, "auto", "bfloat16"),
        (TURING, "auto", "float16"),
        (HOPPER, "fp8", "float8_e4m3fn"),
        (TURING, "fp8_e5m2", "float8_e5m2"),
        (CPU, "fp8_e4m3", "float8_e4m3fn"),
    ],
)
def test_cache_dtype(caps: DeviceCaps, asked: str, expected: str) -> None:
    assert run(caps, kv_cache_dtype=asked).kv_cache_dtype == expected


def test_an_fp8_cache_on_an_old_gpu_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"8\.9 and Tesla T4 has 7\.5; use kv_cache_dtype='fp8_e5m2'"
    ):
        run(TURING, kv_cache_dtype="fp8")


def test_defaults_by_device() -> None:
    gpu, cpu = run(HOPPER), run(CPU)
    assert gpu.choices[0].startswith("device=cuda:0: ")
    assert (gpu.max_num_seqs, gpu.max_num_batched_tokens, gpu.async_steps) == (1024, 8192, 1)
    assert run(TURING).max_num_seqs == 256  # 16 GB hold the keys and values of fewer
    assert cpu.choices[0].startswith("device=cpu: ")
    assert (cpu.max_num_seqs, cpu.max_num_batched_tokens, cpu.async_steps) == (128, 2048, 0)


def test_max_model_len() -> None:
    assert (run().max_model_len, run().max_model_len_explicit) == (4096, False)
    given = run(max_model_len=100)
    assert (given.max_model_len, given.max_model_len_explicit) == (100, True)
    with pytest.raises(ConfigError, match="max_model_len=4097 is more than the 4096 positions"):
        run(max_model_len=4097)


def test_batch_limits_follow_each_other() -> None:
    assert run(max_num_batched_tokens=16).max_num_seqs == 16
    assert run(max_num_seqs=5000).max_num_batched_tokens == 5000
    assert run(max_num_seqs=2, max_model_len=64).max_num_batched_tokens == 128
    with pytest.raises(ConfigError, match="max_num_batched_tokens=7 is less than max_num_seqs=8"):
        run(max_num_seqs=8, max_num_batched_tokens=7)


def test_without_chunked_prefill_a_step_holds_the_longest_prompt() -> None:
    assert run(enable_chunked_prefill=False).max_num_batched_tokens == 4096
    with pytest.raises(ConfigError, match="enable_chunked_prefill=True"):
        run(enable_chunked_prefill=False, max_num_batched_tokens=4095)


@pytest.mark.parametrize("steps", [-1, 2])
def test_async_steps_range(steps: int) -> None:
    with pytest.raises(ConfigError, match=r"async_steps must be a whole number in \[0, 1\]"):
        run(async_steps=steps)
    assert run(HOPPER, async_steps=0).async_steps == 0


def test_every_value_has_a_reason() -> None:
    resolved = run(HOPPER, ModelFacts("float32", 4096), max_num_seqs=3)
    assert resolved.choices == (
        "device=cuda:0: the first GPU (NVIDIA H200)",
        "dtype=bfloat16: half the bytes of the checkpoint's float32",
        "kv_cache_dtype=bfloat16: the model's",
        "max_model_len=4096: the model's own limit",
        "max_num_seqs=3: as given",
        "max_num_batched_tokens=8192: the default of a GPU",
        "async_steps=1: overlaps planning with the GPU's work",
    )
