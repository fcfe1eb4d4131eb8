"""A process that compiles kernels into Triton's cache, started by `compiling` alone.

Its interpreter is its own: reading a kernel's source, which holds it, is in nobody's way. Needs no
GPU, and no torch, whose import takes longer than most kernels. A line of JSON on standard input is
a kernel, a line on standard output its end, good or not: who compiles it again is told the error.
Ends with its standard input.
"""

import contextlib
import importlib
import os
import sys
from typing import Any

import msgspec
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia import driver
from triton.compiler import ASTSource, compile
from triton.experimental.gluon._runtime import GluonASTSource
from triton.runtime import cache

# Imported ahead: it takes the longest to compile.
from quire.kernels.attention import gluon_prefill as gluon_prefill

Path = tuple[int, ...]  # of a parameter


class Task(msgspec.Struct, frozen=True, array_like=True):
    """What `triton.compile` is given, as JSON has it. `name` is a kernel's in `module`; the keys
    are Triton's for itself and for the kernel."""

    triton_key: str
    module: str
    name: str
    cache_key: str
    signature: dict[str, str]
    constants: list[tuple[Path, str | float | int | bool | None]]
    attributes: list[tuple[Path, list[list[str | int]]]]
    target: tuple[str, str | int, int]
    options: dict[str, Any]


def task_of(source: ASTSource, target: GPUTarget, options: dict[str, Any]) -> bytes:
    """A line that stands for it. Raises TypeError where JSON has no word for a value."""
    fields = (
        cache.triton_key(),
        source.fn.__module__,
        source.fn.__name__,
        source.fn.cache_key,
        source.signature,
        list(source.constants.items()),
        list(source.attrs.items()),
        (target.backend, target.arch, target.warp_size),
        options,
    )
    return msgspec.json.encode(fields) + b"\n"


def run(line: bytes) -> None:
    """Compile what `task_of` has told."""
    task = msgspec.json.decode(line, type=Task)
    cache.triton_key = lambda: task.triton_key  # found by reading 400 MB
    kernel = getattr(importlib.import_module(task.module), task.name)
    # By itself it may find another (Triton 3.6 to 3.9): the constants of a function that it calls
    # count if that has a key already.
    kernel.hash = task.cache_key
    source = (GluonASTSource if kernel.is_gluon() else ASTSource)(
        kernel, task.signature, dict(task.constants), dict(task.attributes)
    )
    # Triton's options are tuples, and count by their spelling.
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in task.options.items()}
    compiled = compile(source, target=GPUTarget(*task.target), options=options)
    if task.target[0] == "cuda" and hasattr(driver, "make_launcher"):
        driver.CudaLauncher(source, compiled.metadata)  # Triton 3.6 builds a C library for it


def main() -> None:
    sys.modules["torch"] = None  # type: ignore[assignment]  # a kernel that needs it fails at once
    tasks, replies = os.dup(0), os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # a C compiler shall not read what is for us
    os.dup2(2, 1)  # for whatever else the compilers print
    with open(tasks, "rb", buffering=0) as requests:
        for line in requests:
            with contextlib.suppress(Exception):
                run(line)
            os.write(replies, b"\n")


if __name__ == "__main__":
    main()
