"""The engine's configuration: a tree of frozen dataclasses, the same for the CLI, YAML and
`LLM(**kw)`.

A user's `EngineConfig` may leave values "auto" (None). `planner.resolve` and the runner's memory
plan turn each into a value with its reason; nothing downstream sees None-meaning-auto. Every
subsystem gets only its own sub-config. What a field means to a user stands in its `option`:
flags, their help, `--config` files, environment variables and checks are made from it.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from quire.core.errors import ConfigError, NotYetSupportedError, nearest
from quire.core.keywords import ENGINE_NOT_YET, NO_EFFECT, asks_for_nothing
from quire.core.option import check, option, options_of, spellings
from quire.core.pooling_params import Pooling

BOXED_MODEL = "boxed"  # MODEL's default: the small chat model that ships with the package

PAGE_SIZES = tuple(2**power for power in range(9))

Dtype = Literal["auto", "half", "float16", "bfloat16", "float", "float32"]
CacheDtype = Literal["auto", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2"]


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Which model, and how its files are read."""

    model: str = option(BOXED_MODEL, "The model: a folder or a Hub id.")
    tokenizer: str | None = option(None, "Folder or Hub id of another tokenizer.")
    tokenizer_mode: Literal["auto", "slow"] = option("auto", "Which tokenizer implementation.")
    skip_tokenizer_init: bool = option(False, "Load no tokenizer: token ids in, token ids out.")
    revision: str | None = option(None, "Branch, tag or commit of a Hub model.")
    tokenizer_revision: str | None = option(None, "The same for the tokenizer.")
    download_dir: str | None = option(None, "Where Hub files are kept.")
    hf_token: str | None = option(
        None, "Token for gated Hub models (default: HF_TOKEN).", secret=True
    )
    trust_remote_code: bool = option(False, "Run code that comes with the checkpoint.")
    dtype: Dtype = option("auto", "Numbers the weights are held in.")
    quantization: Literal["fp8", "int8", "int4"] | None = option(
        None,
        "Round weights to this while they load; with int8 and int4, those of embedding and head to"
        " int8.",
    )
    load_format: Literal["auto", "safetensors", "pt", "dummy"] = option(
        "auto", "Which weight files; dummy: random weights."
    )
    packed_weights_dir: str | None = option(
        None,
        "On a CPU, a folder where weights are kept as they are computed with: a first start writes"
        " them there, later ones only map the file.",
    )
    max_model_len: int | None = option(
        None,
        "Most tokens of a prompt and its output together: 8192, 8k, or auto for the model's own,"
        " lowered to what fits.",
        kind="count",
        automatic=("auto", "-1"),
        low=1,
    )
    seed: int = option(0, "Seed of everything random.")
    model_impl: Literal["auto", "quire", "transformers"] = option("auto", "Whose model code.")
    generation_config: str = option(
        "auto",
        "Where sampling defaults come from: auto (the model's generation_config.json), vllm (none),"
        " or a folder with that file.",
    )
    override_generation_config: dict[str, Any] | None = option(
        None, "Sampling defaults that differ, such as '{\"temperature\": 0.5}'."
    )
    pooling: Literal["auto", Pooling] = option(
        "auto",
        "How embeddings are made of hidden states where a request does not say (auto: as the"
        " model's 1_Pooling/config.json does, else of the last).",
    )
    max_logprobs: int = option(
        20, "Most log-probabilities per token a request may ask for; -1: any.", low=-1
    )


@dataclass(frozen=True, slots=True)
class CacheConfig:
    """The KV cache."""

    page_size: int = option(16, "Tokens in a KV cache page, a power of two.", name="block_size")
    gpu_memory_utilization: float = option(
        0.92,
        "Share of a GPU's memory to use, in (0, 1].",
        also=("device_memory_utilization",),
        above=0,
        high=1,
    )
    cpu_memory_fraction: float = option(
        0.4,
        "Share of the memory that is free after loading to use for the KV cache on a CPU.",
        above=0,
        high=1,
    )
    kv_cache_memory_bytes: int | None = option(
        None, "Size of the KV cache, such as 2GiB.", kind="size", low=1
    )
    num_pages: int | None = option(
        None,
        "Number of KV cache pages, whatever is measured.",
        name="num_gpu_blocks_override",
        low=1,
    )
    kv_cache_dtype: CacheDtype = option(
        "auto",
        "Numbers that keys and values are held in: auto (the model's), or with half the bytes fp8,"
        " which is fp8_e4m3.",
    )
    enable_prefix_caching: bool = option(
        True,
        "Reuse the KV cache of equal prompt beginnings.",
        opposites=("disable_prefix_caching",),
    )


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """Admission and batching."""

    max_num_seqs: int | None = option(
        None, "Most sequences computed together.", kind="count", low=1
    )
    max_num_batched_tokens: int | None = option(None, "Most tokens in a step.", kind="count", low=1)
    policy: Literal["fcfs", "priority"] = option(
        "fcfs", "Which request goes first.", name="scheduling_policy"
    )
    enable_chunked_prefill: bool = option(True, "Cut long prompts into several steps.")
    async_steps: int | None = option(
        None,
        "Steps planned ahead of the one being waited for (default: 1 on a GPU, 0 on a CPU).",
        low=0,
        high=1,
    )


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """Where it runs."""

    device: str = option("auto", "auto, cpu, cuda or cuda:N.")
    enforce_eager: bool = option(False, "Never use CUDA graphs.")


@dataclass(frozen=True, slots=True)
class StructuredConfig:
    """Structured outputs: JSON, regexes and grammars that answers must follow."""

    grammar_timeout: float = option(
        5.0, "Seconds that compiling a grammar may take; after that its request fails.", above=0
    )
    disable_any_whitespace: bool = option(
        False, "Write JSON of structured outputs without any whitespace."
    )
    structured_outputs_config: dict[str, Any] | None = option(
        None, "The same in one object: '{\"disable_any_whitespace\": true}'."
    )

    def __post_init__(self) -> None:
        for key, value in (self.structured_outputs_config or {}).items():
            if value and key not in ("backend", "disable_fallback", "disable_any_whitespace"):
                name = f"structured_outputs_config {key}={value!r}"
                raise NotYetSupportedError(f"{name} is not supported yet; leave it out")

    @property
    def compact_json(self) -> bool:
        """Whether JSON has no whitespace, where a request does not say."""
        together = self.structured_outputs_config or {}
        return self.disable_any_whitespace or bool(together.get("disable_any_whitespace"))


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Everything an engine needs to start."""

    model: ModelConfig = field(default_factory=ModelConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    device: DeviceConfig = field(default_factory=DeviceConfig)
    structured: StructuredConfig = field(default_factory=StructuredConfig)


SECTIONS: dict[str, type] = {
    "model": ModelConfig,
    "cache": CacheConfig,
    "scheduler": SchedulerConfig,
    "device": DeviceConfig,
    "structured": StructuredConfig,
}

# A keyword (vLLM's, and ours) -> (section, field).
ENGINE_KEYWORDS: dict[str, tuple[str, str]] = {
    word: (name, field_name)
    for name, section in SECTIONS.items()
    for word, field_name in spellings(options_of(section)).items()
}


def engine_config(**options: Any) -> EngineConfig:
    """Build the tree from flat keywords. None leaves an option at its default.

    Raises:
        ConfigError: an unknown keyword (naming the nearest), or a value out of range.
        NotYetSupportedError: a keyword whose feature does not exist yet.
    """
    given: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    for keyword, value in options.items():
        if keyword in ENGINE_KEYWORDS:
            section, field_name = ENGINE_KEYWORDS[keyword]
            if value is not None:
                given[section][field_name] = value
        elif keyword in ENGINE_NOT_YET:
            if not asks_for_nothing(value, ENGINE_NOT_YET[keyword]):
                raise NotYetSupportedError(
                    f"{keyword}={value!r} is not supported yet; leave it out"
                )
        elif keyword not in NO_EFFECT:
            known = sorted({*ENGINE_KEYWORDS, *ENGINE_NOT_YET, *NO_EFFECT})
            raise ConfigError(f"unknown option '{keyword}'{nearest(keyword, known)}")
    sections = {name: section(**given[name]) for name, section in SECTIONS.items()}
    for section in sections.values():
        check(section)
    config = EngineConfig(**sections)
    if config.cache.page_size not in PAGE_SIZES:
        size = config.cache.page_size
        raise ConfigError(f"block_size must be a power of two in [1, 256], got {size}")
    return config
