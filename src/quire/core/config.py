"""The configuration: a tree of frozen dataclasses, the same for the CLI, YAML and `LLM(**kw)`.

A user's `EngineConfig` may leave values "auto" (None). `core.resolve` and the runner's memory
plan turn each into a value with its reason; nothing downstream sees None-meaning-auto. Every
subsystem gets only its own sub-config.
"""

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from quire.core.errors import ConfigError, NotYetSupportedError, nearest

BOXED_MODEL = "boxed"  # MODEL's default: the small chat model that ships with the package

DTYPES = ("auto", "half", "float16", "bfloat16", "float", "float32")
LOAD_FORMATS = ("auto", "safetensors", "pt", "dummy")


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Which model, and how its files are read."""

    model: str = BOXED_MODEL
    tokenizer: str | None = None  # None: the model's own
    tokenizer_mode: Literal["auto", "slow"] = "auto"
    skip_tokenizer_init: bool = False
    revision: str | None = None
    tokenizer_revision: str | None = None
    download_dir: str | None = None
    hf_token: str | None = field(default=None, repr=False)
    trust_remote_code: bool = False
    dtype: str = "auto"
    load_format: str = "auto"
    max_model_len: int | None = None  # None: the config's, lowered to what fits
    seed: int = 0
    model_impl: Literal["auto", "quire", "transformers"] = "auto"
    generation_config: str = "auto"  # "auto": the model's; "vllm"/"quire": none; or a folder
    max_logprobs: int = 20  # most log-probabilities per position a request may ask for; -1 no limit


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """The KV cache."""

    page_size: int = 16
    gpu_memory_utilization: float = 0.92
    cpu_memory_fraction: float = 0.4  # of the memory that is free once the weights are loaded
    kv_cache_memory_bytes: int | None = None
    num_pages: int | None = None  # of each KV group; overrides every measurement
    enable_prefix_caching: bool = True


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """Admission and batching."""

    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    policy: Literal["fcfs", "priority"] = "fcfs"
    enable_chunked_prefill: bool = True
    # Steps planned ahead of the host's knowledge of sampled tokens. None: 1 on a GPU, 0 on a CPU.
    async_steps: int | None = None


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """Where it runs."""

    device: str = "auto"  # auto, cpu, cuda, cuda:N
    enforce_eager: bool = False
    tensor_parallel_size: int = 1


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Everything an engine needs to start."""

    model: ModelConfig = field(default_factory=ModelConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    device: DeviceConfig = field(default_factory=DeviceConfig)


# vLLM's keyword -> where it lives here, where the names differ.
_ALIASES: dict[str, str] = {
    "block_size": "page_size",
    "num_gpu_blocks_override": "num_pages",
    "scheduling_policy": "policy",
    "device_memory_utilization": "gpu_memory_utilization",
}

# Known keywords whose feature does not exist yet, with the values that ask for nothing.
_NOT_YET: dict[str, tuple[object, ...]] = {
    "quantization": (None,),
    "kv_cache_dtype": ("auto", None),
    "pipeline_parallel_size": (1,),
    "data_parallel_size": (1,),
    "enable_expert_parallel": (False,),
    "distributed_executor_backend": (None, "uni"),
    "enable_lora": (False,),
    "max_loras": (1,),
    "max_lora_rank": (16,),
    "speculative_config": (None,),
    "cpu_offload_gb": (0, 0.0),
    "kv_offloading_size": (None, 0),
    "swap_space": (None, 0, 4),
    "hf_overrides": (None, {}),
    "override_generation_config": (None, {}),
    "limit_mm_per_prompt": (None, {}),
    "mm_processor_kwargs": (None, {}),
    "allowed_local_media_path": ("",),
    "enable_sleep_mode": (False,),
    "logits_processors": (None, []),
    "runner": ("auto", "generate"),
    "convert": ("auto", "none"),
    "pooler_config": (None,),
    "task": (None, "auto", "generate"),
}

# Known keywords that change nothing here, because what they tune does not exist or is always so.
_NO_EFFECT = frozenset(
    {
        "compilation_config",
        "disable_custom_all_reduce",
        "disable_log_stats",
        "async_scheduling",
        "max_seq_len_to_capture",
        "use_tqdm_on_load",
        "max_num_partial_prefills",
    }
)


def engine_config(**options: Any) -> EngineConfig:
    """Build the tree from flat keywords (vLLM's names, and ours).

    Raises:
        ConfigError: an unknown keyword (naming the nearest), or a value out of range.
        NotYetSupportedError: a keyword whose feature does not exist yet.
    """
    sections: dict[str, dict[str, Any]] = {"model": {}, "cache": {}, "scheduler": {}, "device": {}}
    home = option_sections()
    for keyword, value in options.items():
        if keyword in _NOT_YET:
            if value not in _NOT_YET[keyword]:
                raise NotYetSupportedError(
                    f"{keyword}={value!r} is not supported yet; leave it out"
                )
            continue
        if keyword in _NO_EFFECT:
            continue
        name = _ALIASES.get(keyword, keyword)
        if name not in home:
            known = sorted({*home, *_ALIASES, *_NOT_YET, *_NO_EFFECT})
            raise ConfigError(f"unknown option '{keyword}'{nearest(keyword, known)}")
        sections[home[name]][name] = value
    config = EngineConfig(
        ModelConfig(**sections["model"]),
        CacheConfig(**{k: v for k, v in sections["cache"].items() if v is not None}),
        SchedulerConfig(**sections["scheduler"]),
        DeviceConfig(**sections["device"]),
    )
    _validate(config)
    return config


def option_sections() -> dict[str, str]:
    """Option name -> the section of `EngineConfig` it belongs to."""
    parts = {
        "model": ModelConfig,
        "cache": CacheConfig,
        "scheduler": SchedulerConfig,
        "device": DeviceConfig,
    }
    return {f.name: section for section, cls in parts.items() for f in fields(cls)}


def _validate(config: EngineConfig) -> None:
    model, cache, scheduler = config.model, config.cache, config.scheduler
    _choice("dtype", model.dtype, DTYPES)
    _choice("load_format", model.load_format, LOAD_FORMATS)
    _choice("tokenizer_mode", model.tokenizer_mode, ("auto", "slow"))
    _choice("model_impl", model.model_impl, ("auto", "quire", "transformers"))
    _choice("scheduling_policy", scheduler.policy, ("fcfs", "priority"))
    _positive("max_model_len", model.max_model_len)
    if model.max_logprobs != -1:
        _positive("max_logprobs", model.max_logprobs)
    _positive("max_num_seqs", scheduler.max_num_seqs)
    _positive("max_num_batched_tokens", scheduler.max_num_batched_tokens)
    _positive("num_gpu_blocks_override", cache.num_pages)
    _positive("kv_cache_memory_bytes", cache.kv_cache_memory_bytes)
    if cache.page_size < 1 or cache.page_size > 256 or cache.page_size & (cache.page_size - 1):
        raise ConfigError(f"block_size must be a power of two in [1, 256], got {cache.page_size}")
    for name, value in (
        ("gpu_memory_utilization", cache.gpu_memory_utilization),
        ("cpu_memory_fraction", cache.cpu_memory_fraction),
    ):
        if not 0.0 < value <= 1.0:
            raise ConfigError(f"{name} must be in (0, 1], got {value!r}")
    if config.device.tensor_parallel_size != 1:
        raise NotYetSupportedError(
            f"tensor_parallel_size={config.device.tensor_parallel_size} is not supported yet; use 1"
        )


def _choice(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(
            f"{name} must be one of {', '.join(known)}, got {value!r}{nearest(str(value), known)}"
        )


def _positive(name: str, value: int | None) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ConfigError(f"{name} must be a positive integer, got {value!r}")
