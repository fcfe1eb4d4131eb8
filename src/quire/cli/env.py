"""`quire env`: versions, machine, devices and kernels, as a bug report needs them. No secrets."""

import platform
import re
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import click

_PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "huggingface-hub",
    "triton",
    "numpy",
    "jinja2",
    "msgspec",
)

_LABEL_WIDTH = 17


@click.command(name="env", short_help="Print what a bug report needs.")
def command() -> None:
    """Print what a bug report needs: versions, machine, devices, kernels.

    Tokens and paths of yours are not printed.

    \b
    quire env
    """
    for name, value in facts():
        first, *rest = value.splitlines() or [""]
        click.echo(f"{name + ':':<{_LABEL_WIDTH}}{first}")
        for line in rest:
            click.echo(f"{'':<{_LABEL_WIDTH}}{line}")


def facts() -> Iterator[tuple[str, str]]:
    """(name, value) pairs; a value may have several lines."""
    yield "quire", _version("quire")
    yield "python", f"{platform.python_version()} ({platform.python_implementation()})"
    yield "platform", platform.platform()
    for package in _PACKAGES:
        yield package, _version(package)
    yield from _host()
    yield from _devices()
    yield "C compiler", _compiler()
    yield "environment", _environment()


def _host() -> Iterator[tuple[str, str]]:
    import os

    from quire.platform.host import host_facts

    host = host_facts()
    yield "CPU", host.cpu_model
    yield "CPU flags", " ".join(host.flags) or "none that kernels are chosen by"
    yield "cores", f"{host.num_cores} usable of {os.cpu_count()} (affinity and cgroup applied)"
    yield (
        "memory",
        f"{_gib(host.free_memory)} free of {_gib(host.total_memory)} (cgroup applied)",
    )


def _devices() -> Iterator[tuple[str, str]]:
    from quire.core.errors import ConfigError
    from quire.kernels.select import select_ops
    from quire.platform.detect import cuda_missing, detect

    missing = cuda_missing()
    if missing is None:
        index = 0
        while True:
            try:
                caps = detect(f"cuda:{index}")
            except ConfigError:  # no more of them
                break
            memory = f"{_gib(caps.free_memory)} free of {_gib(caps.total_memory)}"
            capability = ".".join(map(str, caps.compute_capability or ()))
            yield f"GPU {index}", f"{caps.name}, capability {capability}, {memory}"
            index += 1
    else:
        yield "GPU", f"none: {missing}"
    yield "GPU driver", _driver()
    caps = detect("auto")
    yield "device", caps.torch_device
    yield "kernels", select_ops(caps).explain()


def _driver() -> str:
    file = Path("/proc/driver/nvidia/version")
    if not file.exists():
        return "none"
    match = re.search(r"(\d+\.\d+(?:\.\d+)?)", file.read_text(encoding="utf-8", errors="replace"))
    return match[1] if match else "unknown"


def _compiler() -> str:
    found = [name for name in ("gcc", "clang", "cc") if shutil.which(name)]
    return ", ".join(found) or "none: Triton kernels cannot be built"


def _environment() -> str:
    from quire.core import env

    parts = [
        f"QUIRE_LOG_LEVEL={env.log_level()}",
        f"QUIRE_DEBUG={int(env.debug())}",
        f"HF_TOKEN {'set' if env.hf_token() else 'not set'}",
        f"HF_HUB_OFFLINE={int(env.hub_offline())}",
        f"prefix {'virtual environment' if sys.prefix != sys.base_prefix else 'system'}",
    ]
    return ", ".join(parts)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"
