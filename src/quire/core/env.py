"""Environment variables, all of them, read (and one pair set) here and nowhere else.

Those in `KNOWN` are switches of their own. Besides, every option of the server can be set by
QUIRE_ and its name in capitals, as containers like it; those are read through `option` only.
"""

import os
from collections.abc import Iterable

from quire.core.errors import ConfigError

KNOWN = {
    "QUIRE_LOG_LEVEL": "debug, info (default), warning or error",
    "QUIRE_DEBUG": "1 checks the page pool's invariants whenever the engine is idle",
    "VLLM_API_KEY": "where QUIRE_API_KEY is not set: the server's API key",
    "CC": "the C compiler that Triton builds its launchers with (default gcc, then clang)",
    "HF_TOKEN": "access token for gated or private Hub repositories",
    "HF_HOME": "where the Hub's files are cached",
    "HF_HUB_OFFLINE": "1 never touches the network",
}

_LEVELS = ("debug", "info", "warning", "error")


def log_level() -> str:
    """QUIRE_LOG_LEVEL; a malformed value is an error."""
    level = os.environ.get("QUIRE_LOG_LEVEL", "info").lower()
    if level not in _LEVELS:
        raise ConfigError(f"QUIRE_LOG_LEVEL must be one of {', '.join(_LEVELS)}, got {level!r}")
    return level


def debug() -> bool:
    value = os.environ.get("QUIRE_DEBUG", "0")
    if value not in ("0", "1", ""):
        raise ConfigError(f"QUIRE_DEBUG must be 0 or 1, got {value!r}")
    return value == "1"


def c_compiler() -> str | None:
    return os.environ.get("CC") or None


def hf_token() -> str | None:
    return os.environ.get("HF_TOKEN") or None


def hub_offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on")


def calm_threads() -> None:
    """Let threads that have nothing to do leave their core soon. Call it before torch is imported.

    OpenMP's turn round for milliseconds, on cores that other programs, or the thread they wait for,
    could use. A decode step of Qwen3-0.6B's shape on two cores (21 November 2026) takes 34 to
    50 ms either way when it is alone; beside a busy server it took 711 to 1137 ms by default, and
    beside two busy loops 80 to 95 with this.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def for_helper() -> dict[str, str]:
    """The environment of a process that computes no matrices: its libraries start no threads."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def bound_matmul_caches() -> None:
    """Keep a process that meets every length of prompt from growing.

    oneDNN, and torch's layer over it, keep what they made for a matmul's shape, by default for 1024
    shapes each. With the model in the box, a process grows by 583 MiB over 300 prompts of random
    lengths with that, and by 282 MiB with 256, in the same time (2 cores of an EPYC, 21 November
    2026). Both read their variable at the first matmul.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, "256")


def option(name: str) -> str | None:
    """QUIRE_<NAME> of a server option, such as QUIRE_MAX_MODEL_LEN; None if unset or empty.

    Kubernetes sets QUIRE_PORT to an address of its own (tcp://10.0.0.1:8000) in every container
    beside a service of the name quire; that is not meant for us.
    """
    value = os.environ.get(option_variable(name), "").strip()
    if name == "api_key":  # who set vLLM's believes that the server is closed
        value = value or os.environ.get("VLLM_API_KEY", "").strip()
    return None if not value or value.startswith("tcp://") else value


def option_variable(name: str) -> str:
    return "QUIRE_" + name.upper().replace("-", "_")


def unknown_options(known: Iterable[str]) -> list[str]:
    """Set variables that begin with QUIRE_ and mean nothing, given the options' names."""
    meant = {option_variable(name) for name in known} | KNOWN.keys()
    return sorted(v for v in os.environ if v.startswith("QUIRE_") and v not in meant)
