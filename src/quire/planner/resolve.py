"""resolve(): every "auto" of the configuration becomes a value with its reason. Pure.

What needs measuring (the number of KV pages, and whether an unset `max_model_len` must be
lowered) is `planner.memory`'s. It lives here and not in `core/` because it reads DeviceCaps,
whose rank is above `core`'s. No torch: front end, engine and tests all may call it.
"""

from dataclasses import dataclass
from typing import TypeVar, cast

from quire.core.config import EngineConfig
from quire.core.errors import ConfigError
from quire.core.kv_spec import KVDtype
from quire.platform.caps import DeviceCaps

# Rows: one decoding sequence each. A GPU has bandwidth to share among more of them.
MAX_NUM_SEQS = {"cuda": 256, "cpu": 128}
# A GPU with so much memory holds the keys and values of more.
LARGE_GPU = 64 << 30
MANY_SEQS = 1024
# Tokens of a step: enough to be bound by arithmetic, few enough that a step stays short for
# the sequences that decode beside a long prompt.
MAX_NUM_BATCHED_TOKENS = {"cuda": 8192, "cpu": 2048}
# The first that converts float8_e4m3fn; Triton has no code for others.
E4M3_CAPABILITY = (8, 9)
ASYNC_STEPS = {"cuda": (1, "overlaps planning with the GPU's work"), "cpu": (0, "the CPU does all")}

_DTYPE_NAMES = {"auto": None, "half": "float16", "float": "float32"}
_KV_DTYPES: dict[str, KVDtype | None] = {
    "auto": None,
    "bfloat16": "bfloat16",
    "fp8": "float8_e4m3fn",
    "fp8_e4m3": "float8_e4m3fn",
    "fp8_e5m2": "float8_e5m2",
}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What `resolve` must know of a model.

    `dtype` is the checkpoint's ("float32", "float16", "bfloat16"), `max_position` the longest
    sequence its positions are made for, rope scaling included.
    """

    dtype: str
    max_position: int


@dataclass(frozen=True, slots=True)
class Resolved:
    """The configuration with nothing left to guess; `choices` are lines with the reasons.

    `max_model_len_explicit` tells the memory plan whether it may lower `max_model_len`.
    """

    dtype: str
    kv_cache_dtype: KVDtype
    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    async_steps: int
    max_model_len_explicit: bool
    choices: tuple[str, ...]


def resolve(config: EngineConfig, facts: ModelFacts, caps: DeviceCaps) -> Resolved:
    """Turn every "auto" into a value.

    Raises:
        ConfigError: an option contradicts the model, the device or another option.
    """
    model, scheduler = config.model, config.scheduler
    choices: list[str] = []

    def choose(option: str, asked: T | None, auto: tuple[T, str]) -> T:
        value, reason = auto if asked is None else (asked, "as given")
        choices.append(f"{option}={value}: {reason}")
        return value

    asked_device = None if config.device.device == "auto" else caps.torch_device
    choose("device", asked_device, _auto_device(caps))
    asked_dtype = _DTYPE_NAMES.get(model.dtype, model.dtype)
    dtype = choose("dtype", asked_dtype, _auto_dtype(facts.dtype, caps))
    kv_dtype = choose(
        "kv_cache_dtype",
        _KV_DTYPES[config.cache.kv_cache_dtype],
        (cast("KVDtype", dtype), "the model's"),
    )
    own_limit = (facts.max_position, "the model's own limit")
    length = choose("max_model_len", model.max_model_len, own_limit)
    budget, whole = scheduler.max_num_batched_tokens, not scheduler.enable_chunked_prefill
    seqs = choose("max_num_seqs", scheduler.max_num_seqs, _auto_seqs(budget, caps))
    auto_budget = _auto_budget(seqs, length, whole, caps)
    tokens = choose("max_num_batched_tokens", budget, auto_budget)
    steps = choose("async_steps", scheduler.async_steps, ASYNC_STEPS[caps.kind])
    made = Resolved(
        dtype,
        kv_dtype,
        length,
        seqs,
        tokens,
        steps,
        max_model_len_explicit=model.max_model_len is not None,
        choices=tuple(choices),
    )
    _check(made, facts, caps, whole)
    return made


def _check(made: Resolved, facts: ModelFacts, caps: DeviceCaps, whole_prompts: bool) -> None:
    """Refuse what was asked for and cannot be."""
    length, seqs, tokens = made.max_model_len, made.max_num_seqs, made.max_num_batched_tokens
    if made.dtype == "bfloat16" and caps.kind == "cuda" and not caps.native_bf16:
        raise ConfigError(
            f"dtype='bfloat16' needs compute capability 8.0 and {caps.name} has "
            f"{_capability(caps)}; use dtype='half'"
        )
    capability = caps.compute_capability or E4M3_CAPABILITY  # a CPU converts anything
    if made.kv_cache_dtype == "float8_e4m3fn" and capability < E4M3_CAPABILITY:
        raise ConfigError(
            f"kv_cache_dtype='fp8' needs compute capability 8.9 and {caps.name} has "
            f"{_capability(caps)}; use kv_cache_dtype='fp8_e5m2' or 'auto'"
        )
    if length > facts.max_position:
        raise ConfigError(
            f"max_model_len={length} is more than the {facts.max_position} positions the model is "
            "made for; lower it, or extend the model's range by rope scaling in its config.json"
        )
    if tokens < seqs:
        raise ConfigError(
            f"max_num_batched_tokens={tokens} is less than max_num_seqs={seqs}: every "
            "running sequence needs a token of each step; raise the one or lower the other"
        )
    if whole_prompts and tokens < length:
        raise ConfigError(
            f"max_num_batched_tokens={tokens} is less than max_model_len={length}, and without "
            "chunked prefill a prompt is computed in one step; raise it, lower max_model_len, or "
            "set enable_chunked_prefill=True"
        )


def _auto_device(caps: DeviceCaps) -> tuple[str, str]:
    found = "the first GPU" if caps.kind == "cuda" else "no GPU that torch can use was found"
    return caps.torch_device, f"{found} ({caps.name})"


def _auto_dtype(stored: str, caps: DeviceCaps) -> tuple[str, str]:
    if caps.kind == "cpu":
        if stored == "float16":
            return "bfloat16", "the checkpoint is float16, slow on CPUs"
        if stored == "float64":
            return "float32", "the checkpoint is float64"
        return stored, "the checkpoint's"
    if stored == "float16" or (stored == "bfloat16" and caps.native_bf16):
        return stored, "the checkpoint's"
    if caps.native_bf16:
        return "bfloat16", f"half the bytes of the checkpoint's {stored}"
    return "float16", (
        f"the checkpoint is {stored}, but bfloat16 needs compute capability 8.0 and {caps.name} "
        f"has {_capability(caps)}"
    )


def _auto_seqs(budget: int | None, caps: DeviceCaps) -> tuple[int, str]:
    default = MAX_NUM_SEQS[caps.kind]
    if budget is not None and budget < default:
        return budget, f"max_num_batched_tokens={budget} allows no more"
    if caps.kind == "cuda" and caps.total_memory >= LARGE_GPU:
        return MANY_SEQS, f"{caps.name} has {caps.total_memory / 2**30:.0f} GiB"
    return default, f"the default of a {_kind(caps)}"


def _auto_budget(seqs: int, max_model_len: int, whole: bool, caps: DeviceCaps) -> tuple[int, str]:
    default = MAX_NUM_BATCHED_TOKENS[caps.kind]
    if seqs > default:
        return seqs, f"a token for each of max_num_seqs={seqs}"
    if whole and max_model_len > default:
        return max_model_len, "whole prompts, as chunked prefill is off"
    if seqs * max_model_len < default:
        return seqs * max_model_len, "all that the sequences can hold"
    return default, f"the default of a {_kind(caps)}"


def _kind(caps: DeviceCaps) -> str:
    return "GPU" if caps.kind == "cuda" else "CPU"


def _capability(caps: DeviceCaps) -> str:
    return ".".join(map(str, caps.compute_capability or ()))
