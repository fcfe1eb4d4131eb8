"""`quire env`: versions, machine, devices and kernels, as a bug report needs them. No secrets."""

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import click

_PACKAGES = (
    *("torch", "transformers", "tokenizers", "safetensors", "huggingface-hub", "triton", "numpy"),
    *("jinja2", "msgspec", "pyzmq", "uvicorn", "fastapi", "llguidance"),
)
_LABEL_WIDTH = 17


@click.command(name="env", short_help="Print what a bug report needs.")
def command() -> None:
    """Print what a bug report needs: versions, machine, devices, kernels.

    Tokens and paths of yours are not printed.

    \b
    quire env
    """
    for name, value in (*_versions(), *_machine(), *_devices(), *_environment()):
        first, *rest = value.splitlines() or [""]
        click.echo(f"{name + ':':<{_LABEL_WIDTH}}{first}")
        for line in rest:
            click.echo(f"{'':<{_LABEL_WIDTH}}{line}")


def _versions() -> Iterator[tuple[str, str]]:
    for package in ("quire", *_PACKAGES):
        try:
            yield package, metadata.version(package)
        except metadata.PackageNotFoundError:
            yield package, "not installed"
    kind = "virtual environment" if sys.prefix != sys.base_prefix else "system"
    yield "python", f"{platform.python_version()} ({platform.python_implementation()}, {kind})"


def _machine() -> Iterator[tuple[str, str]]:
    from quire.platform.detect import detect
    from quire.platform.host import host_facts

    host = host_facts()
    yield "platform", platform.platform()
    yield "CPU", host.cpu_model
    yield "CPU flags", " ".join(host.flags) or "none that kernels are chosen by"
    yield "cores", f"{host.num_cores} usable of {os.cpu_count()} (affinity and cgroup applied)"
    yield "memory", f"{_free(host.free_memory, host.total_memory)} (cgroup applied)"
    caps = detect("cpu")
    yield "CPU kernels", caps.isa or f"torch's alone: {caps.isa_missing}"
    compilers = [name for name in ("gcc", "clang", "cc") if shutil.which(name)]
    yield "C compiler", ", ".join(compilers) or "none: Triton kernels cannot be built"


def _devices() -> Iterator[tuple[str, str]]:
    from quire.core.errors import ConfigError
    from quire.kernels.select import select_ops
    from quire.platform.detect import cuda_missing, detect

    missing = cuda_missing()
    if missing is not None:
        yield "GPU", f"none: {missing}"
    for index in range(64 if missing is None else 0):
        try:
            caps = detect(f"cuda:{index}")
        except ConfigError:  # no more of them
            break
        capability = ".".join(map(str, caps.compute_capability or ()))
        memory = _free(caps.free_memory, caps.total_memory)
        yield f"GPU {index}", f"{caps.name}, capability {capability}, {memory}"
    driver = Path("/proc/driver/nvidia/version")
    version = re.search(r"\d+\.\d+(\.\d+)?", driver.read_text()) if driver.exists() else None
    yield "GPU driver", "none" if version is None else version[0]
    caps = detect("auto")
    yield "device", caps.torch_device
    yield "kernels", select_ops(caps).explain()


def _environment() -> Iterator[tuple[str, str]]:
    from quire.core import env

    token = "set" if env.hf_token() else "not set"
    switches = f"QUIRE_LOG_LEVEL={env.log_level()}, QUIRE_DEBUG={int(env.debug())}"
    hub = f"HF_TOKEN {token}, HF_HUB_OFFLINE={int(env.hub_offline())}"
    yield "environment", f"{switches}, {hub}"


def _free(free: int, total: int) -> str:
    return f"{free / (1 << 30):.1f} GiB free of {total / (1 << 30):.1f} GiB"
