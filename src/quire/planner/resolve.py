"""resolve(): every "auto" of the configuration becomes a value with its reason. Pure.

What needs measuring (the number of KV pages, and whether an unset `max_model_len` must be
lowered) is `planner.memory`'s. It lives here and not in `core/` because it reads DeviceCaps,
whose rank is above `core`'s. No torch: front end, engine and tests all may call it.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

from quire.core.config import EngineConfig
from quire.core.errors import ConfigError
from quire.platform.caps import DeviceCaps

# Rows: one decoding sequence each. A GPU has bandwidth to share among more of them.
MAX_NUM_SEQS = {"cuda": 256, "cpu": 128}
# Tokens of a step: enough to be bound by arithmetic, few enough that a step stays short for
# the sequences that decode beside a long prompt.
MAX_NUM_BATCHED_TOKENS = {"cuda": 8192, "cpu": 2048}
# A GPU computes a step while the host plans the next; on a CPU there is nothing to overlap.
ASYNC_STEPS = {"cuda": 1, "cpu": 0}

_DTYPE_NAMES = {"half": "float16", "float": "float32"}

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
class Choice(Generic[T]):
    """One resolved option, and why it has that value."""

    option: str
    value: T
    reason: str

    def __str__(self) -> str:
        return f"{self.option}={self.value}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Resolved:
    """The configuration with nothing left to guess; `choices` gives each value its reason.

    `device` is as torch takes it. `max_model_len_explicit` tells the memory plan whether it
    may lower `max_model_len`.
    """

    device: str
    dtype: str
    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    async_steps: int
    max_model_len_explicit: bool
    choices: tuple[Choice[str] | Choice[int], ...]


def resolve(config: EngineConfig, facts: ModelFacts, caps: DeviceCaps) -> Resolved:
    """Turn every "auto" into a value.

    Raises:
        ConfigError: an option contradicts the model, the device or another option.
    """
    device = _device(config.device.device, caps)
    dtype = _dtype(config.model.dtype, facts.dtype, caps)
    length = _max_model_len(config.model.max_model_len, facts)
    seqs = _max_num_seqs(config, caps)
    tokens = _max_num_batched_tokens(config, seqs.value, length.value, caps)
    steps = _async_steps(config.scheduler.async_steps, caps)
    return Resolved(
        device=device.value,
        dtype=dtype.value,
        max_model_len=length.value,
        max_num_seqs=seqs.value,
        max_num_batched_tokens=tokens.value,
        async_steps=steps.value,
        max_model_len_explicit=config.model.max_model_len is not None,
        choices=(device, dtype, length, seqs, tokens, steps),
    )


def _device(asked: str, caps: DeviceCaps) -> Choice[str]:
    if asked != "auto":
        return _given("device", caps.torch_device)
    found = "the first GPU" if caps.kind == "cuda" else "no GPU that torch can use was found"
    return Choice("device", caps.torch_device, f"{found} ({caps.name})")


def _dtype(asked: str, stored: str, caps: DeviceCaps) -> Choice[str]:
    if asked != "auto":
        dtype = _DTYPE_NAMES.get(asked, asked)
        if dtype == "bfloat16" and caps.kind == "cuda" and not caps.native_bf16:
            raise ConfigError(
                f"dtype='bfloat16' needs compute capability 8.0 and {caps.name} has "
                f"{_capability(caps)}; use dtype='half'"
            )
        return _given("dtype", dtype)
    if caps.kind == "cpu":
        if stored == "float16":
            return Choice("dtype", "bfloat16", "the checkpoint is float16, slow on CPUs")
        return Choice("dtype", stored, "the checkpoint's")
    if stored == "float16" or (stored == "bfloat16" and caps.native_bf16):
        return Choice("dtype", stored, "the checkpoint's")
    if caps.native_bf16:
        return Choice("dtype", "bfloat16", f"half the bytes of the checkpoint's {stored}")
    return Choice(
        "dtype",
        "float16",
        f"the checkpoint is {stored}, but bfloat16 needs compute capability 8.0 and {caps.name} "
        f"has {_capability(caps)}",
    )


def _max_model_len(asked: int | None, facts: ModelFacts) -> Choice[int]:
    if asked is None:
        return Choice("max_model_len", facts.max_position, "the model's own limit")
    if asked > facts.max_position:
        raise ConfigError(
            f"max_model_len={asked} is more than the {facts.max_position} positions the model is "
            "made for; lower it, or extend the model's range by rope scaling in its config.json"
        )
    return _given("max_model_len", asked)


def _max_num_seqs(config: EngineConfig, caps: DeviceCaps) -> Choice[int]:
    asked, budget = config.scheduler.max_num_seqs, config.scheduler.max_num_batched_tokens
    if asked is not None:
        if budget is not None and budget < asked:
            raise ConfigError(
                f"max_num_batched_tokens={budget} is less than max_num_seqs={asked}: every "
                "running sequence needs a token of each step; raise the one or lower the other"
            )
        return _given("max_num_seqs", asked)
    default = MAX_NUM_SEQS[caps.kind]
    if budget is not None and budget < default:
        return Choice("max_num_seqs", budget, f"max_num_batched_tokens={budget} allows no more")
    return Choice("max_num_seqs", default, f"the default of a {_kind(caps)}")


def _max_num_batched_tokens(
    config: EngineConfig, max_num_seqs: int, max_model_len: int, caps: DeviceCaps
) -> Choice[int]:
    name, asked = "max_num_batched_tokens", config.scheduler.max_num_batched_tokens
    whole = not config.scheduler.enable_chunked_prefill
    if asked is not None:
        if whole and asked < max_model_len:
            raise ConfigError(
                f"{name}={asked} is less than max_model_len={max_model_len}, and without chunked "
                "prefill a prompt is computed in one step; raise it, lower max_model_len, or set "
                "enable_chunked_prefill=True"
            )
        return _given(name, asked)
    default = MAX_NUM_BATCHED_TOKENS[caps.kind]
    if max_num_seqs > default:
        return Choice(name, max_num_seqs, f"a token for each of max_num_seqs={max_num_seqs}")
    if whole and max_model_len > default:
        return Choice(name, max_model_len, "whole prompts, as chunked prefill is off")
    if max_num_seqs * max_model_len < default:
        return Choice(name, max_num_seqs * max_model_len, "all that the sequences can hold")
    return Choice(name, default, f"the default of a {_kind(caps)}")


def _async_steps(asked: int | None, caps: DeviceCaps) -> Choice[int]:
    if asked is None:
        why = "overlaps planning with the GPU's work" if caps.kind == "cuda" else "the CPU does all"
        return Choice("async_steps", ASYNC_STEPS[caps.kind], why)
    if asked not in (0, 1):
        raise ConfigError(f"async_steps must be 0 or 1, got {asked!r}")
    return _given("async_steps", asked)


def _given(option: str, value: T) -> Choice[T]:
    return Choice(option, value, "as given")


def _kind(caps: DeviceCaps) -> str:
    return "GPU" if caps.kind == "cuda" else "CPU"


def _capability(caps: DeviceCaps) -> str:
    return ".".join(map(str, caps.compute_capability or ()))
