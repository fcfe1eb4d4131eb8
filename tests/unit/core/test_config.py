"""engine_config(): vLLM's keywords reach their place, and nothing is silently ignored."""

import dataclasses

import pytest

import quire
from quire.core import env
from quire.core.config import BOXED_MODEL, ENGINE_KEYWORDS, EngineConfig, engine_config
from quire.core.errors import ConfigError, NotYetSupportedError, QuireError, RequestError, nearest
from quire.core.keywords import ENGINE_NOT_YET, NO_EFFECT
from quire.core.kv_spec import KVGroup, LayerKV


def test_no_options_are_the_defaults() -> None:
    assert engine_config() == EngineConfig()
    assert engine_config().model.model == BOXED_MODEL


def test_the_keywords_of_vllm() -> None:
    config = engine_config(
        model="some/model",
        tokenizer=None,
        tokenizer_mode="slow",
        skip_tokenizer_init=True,
        dtype="half",
        seed=7,
        max_model_len=2048,
        gpu_memory_utilization=0.5,
        kv_cache_memory_bytes=1 << 30,
        num_gpu_blocks_override=100,
        block_size=32,
        max_num_seqs=8,
        max_num_batched_tokens=512,
        enable_prefix_caching=False,
        enforce_eager=True,
        load_format="dummy",
        trust_remote_code=True,
        revision="main",
        download_dir="/tmp/models",
        quantization=None,
        tensor_parallel_size=1,
        scheduling_policy="priority",
        swap_space=4,
        disable_log_stats=True,
    )
    assert (config.model.model, config.model.dtype, config.model.seed) == ("some/model", "half", 7)
    assert (config.cache.page_size, config.cache.num_pages) == (32, 100)
    assert config.cache.gpu_memory_utilization == 0.5
    assert not config.cache.enable_prefix_caching
    assert (config.scheduler.max_num_seqs, config.scheduler.policy) == (8, "priority")
    assert config.device.enforce_eager


def test_none_means_the_default() -> None:
    assert (
        engine_config(block_size=None, enable_prefix_caching=None, seed=None, dtype=None)
        == EngineConfig()
    )


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("max_modle_len", "did you mean 'max_model_len'?"),
        ("blocksize", "did you mean 'block_size'?"),
        ("gpu_memory_utilisation", "did you mean 'gpu_memory_utilization'?"),
        ("zzzzzz", "unknown option 'zzzzzz'"),
    ],
)
def test_unknown_option_names_the_nearest(option: str, hint: str) -> None:
    with pytest.raises(ConfigError) as error:
        engine_config(**{option: 1})
    assert f"unknown option '{option}'" in str(error.value)
    assert hint in str(error.value)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("quantization_config", {"linear": "fp8"}),
        ("tensor_parallel_size", 2),
        ("pipeline_parallel_size", 2),
        ("enable_lora", True),
        ("speculative_config", {"method": "ngram"}),
        ("cpu_offload_gb", 10),
    ],
)
def test_what_does_not_exist_yet_is_refused(option: str, value: object) -> None:
    with pytest.raises(NotYetSupportedError) as error:
        engine_config(**{option: value})
    assert option in str(error.value)
    assert "not supported yet" in str(error.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dtype": "float8"}, "dtype must be one of auto, half"),
        ({"kv_cache_dtype": "fp4"}, "kv_cache_dtype must be one of auto, bfloat16, fp8"),
        ({"dtype": "bflaot16"}, "did you mean 'bfloat16'?"),
        ({"load_format": "npz"}, "load_format must be one of"),
        ({"scheduling_policy": "lifo"}, "scheduling_policy must be one of fcfs, priority"),
        ({"block_size": 24}, "power of two"),
        ({"block_size": 512}, "power of two"),
        ({"block_size": 0}, "power of two"),
        ({"max_model_len": 0}, "max_model_len must be a whole number"),
        ({"max_model_len": 1.5}, "max_model_len must be a whole number"),
        ({"max_num_seqs": True}, "max_num_seqs must be a whole number"),
        ({"max_num_batched_tokens": -1}, "max_num_batched_tokens must be a whole number"),
        ({"num_gpu_blocks_override": 0}, "num_gpu_blocks_override must be a whole number"),
        ({"kv_cache_memory_bytes": 0}, "kv_cache_memory_bytes must be a whole number"),
        ({"gpu_memory_utilization": 0.0}, r"gpu_memory_utilization must be a number in \(0, 1\]"),
        ({"gpu_memory_utilization": 1.1}, r"gpu_memory_utilization must be a number in \(0, 1\]"),
        ({"cpu_memory_fraction": 2}, r"cpu_memory_fraction must be a number in \(0, 1\]"),
    ],
)
def test_values_out_of_range_name_the_range(options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        engine_config(**options)
    assert "\n" not in str(error.value)


def test_no_keyword_has_two_meanings() -> None:
    """An option of ours, a refused keyword and one without effect never share a name."""
    groups = [set(ENGINE_KEYWORDS), set(ENGINE_NOT_YET), set(NO_EFFECT)]
    assert sum(map(len, groups)) == len(set().union(*groups))


def test_option_names_are_unique_over_the_sections() -> None:
    sections = [f.default_factory() for f in dataclasses.fields(EngineConfig)]  # type: ignore[misc]
    names = [f.name for section in sections for f in dataclasses.fields(section)]
    assert sorted(names) == sorted(set(names))


def test_errors_are_what_a_caller_would_catch() -> None:
    error = RequestError("top_p must be in (0, 1], got 2", "top_p", 2)
    assert (error.parameter, error.value) == ("top_p", 2)
    assert isinstance(error, QuireError)
    assert isinstance(error, ValueError)
    assert nearest("tempratur", ["temperature", "top_p"]) == "; did you mean 'temperature'?"
    assert nearest("xyz", ["temperature"]) == ""


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in env.KNOWN:
        monkeypatch.delenv(name, raising=False)
    assert (env.log_level(), env.debug(), env.hf_token()) == ("info", False, None)
    monkeypatch.setenv("QUIRE_LOG_LEVEL", "DEBUG")
    monkeypatch.setenv("QUIRE_DEBUG", "1")
    monkeypatch.setenv("HF_TOKEN", "")
    assert (env.log_level(), env.debug(), env.hf_token()) == ("debug", True, None)
    monkeypatch.setenv("QUIRE_LOG_LEVEL", "loud")
    with pytest.raises(ConfigError, match="QUIRE_LOG_LEVEL must be one of debug, info"):
        env.log_level()
    monkeypatch.setenv("QUIRE_DEBUG", "yes")
    with pytest.raises(ConfigError, match="QUIRE_DEBUG must be 0 or 1"):
        env.debug()
    assert len(env.KNOWN) <= 15


def test_kv_group_sizes() -> None:
    group = KVGroup(None, (LayerKV(0, 8, 128), LayerKV(2, 4, 64)))
    assert group.elements_per_token == 2 * 8 * 128 + 2 * 4 * 64


def test_package_names() -> None:
    for name in quire.__all__:
        if name != "LLM":  # imports torch; the offline tests use it
            assert getattr(quire, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Lllm'"):
        quire.Lllm  # noqa: B018
