"""The library of C++ CPU kernels (`csrc/`): found beside this file, opened once, or why not.

It has a plain C ABI; `csrc/quire.h` declares it. Without the library everything runs on torch.
The kernels run in the threads of torch's OpenMP runtime: two pools on the same cores, each
spinning for its next task, hold each other up. Measured with an addition of 2^20 floats and an
empty kernel in turn on two cores (EPYC, 2026-11): 32 us in shared threads, 166 us with a pool
of our own, 33 us the addition alone.
"""

import ctypes
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch  # brings the OpenMP runtime into the process

from quire.core.errors import ConfigError

POINTER = ctypes.c_void_p
SIZE = ctypes.c_int64
FLOAT = ctypes.c_float
KERNEL_DTYPES = (torch.bfloat16, torch.float32)  # of kernels that take either


@dataclass(frozen=True, slots=True)
class Library:
    """The opened library, and the instruction set of the kernels that are taken from it."""

    handle: ctypes.CDLL
    isa: str

    def kernel(self, name: str, *types: Any) -> Callable[..., None]:
        """quire_<name> for the instruction set, taking arguments of `types`: POINTER (an integer
        or None), SIZE, FLOAT. A call costs less than 1 us; the interpreter lock is let go.

        Raises:
            ConfigError: the library has none of that name.
        """
        try:
            function = self.handle[f"quire_{name}_{self.isa}"]
        except AttributeError:
            raise ConfigError(
                f"Quire's C++ library was built from other sources than its Python code, it lacks "
                f"{name!r}; install Quire again"
            ) from None
        function.argtypes = types
        function.restype = None
        return function


@functools.cache
def open_library() -> tuple[Library | None, str]:
    """(the library at its best instruction set, "") or (None, the reason)."""
    files = [p for p in Path(__file__).parent.glob("libquire.*") if p.suffix in (".so", ".dylib")]
    if not files:
        return None, "Quire was installed without a C++20 compiler (with one, install it again)"
    try:
        handle = ctypes.CDLL(str(files[0]))
    except OSError as error:
        return None, f"{files[0].name} cannot be loaded ({error})"
    sets = usable_sets(handle)
    if not sets:
        return None, "the CPU lacks AVX2"
    return Library(handle, sets[0]), ""


def usable_sets(handle: ctypes.CDLL) -> list[str]:
    """The instruction sets that the library has kernels for and this CPU runs, best first."""
    handle.quire_isas.restype = ctypes.c_char_p
    return str(handle.quire_isas().decode()).split()


def set_threads(count: int) -> None:
    """Let kernels use `count` threads: those of torch's OpenMP runtime where it has the entry
    point that compilers call, else the library's own. Not while a kernel runs."""
    library, _ = open_library()
    if library is None:
        return
    try:
        parallel = ctypes.cast(ctypes.CDLL(None).GOMP_parallel, POINTER).value
    except AttributeError:
        parallel = None
    function = library.handle.quire_set_threads
    function.argtypes = (SIZE, POINTER)
    function.restype = None
    function(count, parallel)
