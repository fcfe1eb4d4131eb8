"""The library of C++ kernels itself: it is there, its threads work, a call is cheap."""

import ctypes
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from quire.core.errors import ConfigError
from quire.platform import native
from quire.platform.native import POINTER, SIZE, Library

ARM_COMPILER = "aarch64-linux-gnu-g++"


@pytest.fixture
def library() -> Iterator[Library]:
    found, missing = native.open_library()
    if found is None:
        pytest.skip(missing)
    yield found
    native.set_threads(torch.get_num_threads())


@pytest.mark.parametrize("shared", [True, False], ids=["openmp", "pool"])
@pytest.mark.parametrize("threads", [1, 2, 7, 64])
def test_every_element_is_touched_once(library: Library, threads: int, shared: bool) -> None:
    if shared:
        native.set_threads(threads)
    else:
        library.handle.quire_set_threads(ctypes.c_int64(threads), None)
    values = torch.zeros(1000)
    for isa in native.usable_sets(library.handle):
        touch = replace(library, isa=isa).kernel("touch", POINTER, SIZE)
        for count in (0, 1, 2, 64, 1000):
            values.zero_()
            for _ in range(20):
                touch(values.data_ptr(), count)
            assert (values[:count] == 20).all()
            assert (values[count:] == 0).all()


def check_program(folder: Path, isa: str, *options: str) -> Path:
    """A C++ program that runs kernels on odd shapes, under ASan and UBSan."""
    source = Path(__file__).parents[2]
    chosen = ["-DQUIRE_SANITIZE=ON", f"-DQUIRE_ONLY={isa}", "-DCMAKE_BUILD_TYPE=None", *options]
    subprocess.run(["cmake", "-S", source, "-B", folder, *chosen], check=True)
    subprocess.run(["cmake", "--build", folder, "--parallel", "2"], check=True)
    return folder / f"check_{isa}"


@pytest.mark.skipif(not shutil.which("cmake"), reason="there is no cmake")
def test_sanitizers_find_nothing(library: Library, tmp_path: Path) -> None:
    program = check_program(tmp_path, library.isa)
    done = subprocess.run([program], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(not shutil.which(ARM_COMPILER), reason=f"there is no {ARM_COMPILER}")
@pytest.mark.skipif(not shutil.which("qemu-aarch64"), reason="there is no qemu-aarch64")
def test_kernels_run_on_arm(tmp_path: Path) -> None:
    """Compiled for it on another machine, and emulated."""
    target = ["SYSTEM_NAME=Linux", "SYSTEM_PROCESSOR=aarch64", f"CXX_COMPILER={ARM_COMPILER}"]
    program = check_program(tmp_path, "dotprod", *(f"-DCMAKE_{option}" for option in target))
    done = subprocess.run(
        ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu", program],
        env={"ASAN_OPTIONS": "detect_leaks=0", "PATH": os.environ["PATH"]},  # those need ptrace
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_library_of_other_sources_says_what_to_do(library: Library) -> None:
    with pytest.raises(ConfigError, match="lacks 'newest'; install Quire again"):
        library.kernel("newest", SIZE)


def test_a_call_costs_little(library: Library) -> None:
    touch = library.kernel("touch", POINTER, SIZE)
    values = torch.zeros(1)
    address = values.data_ptr()
    best = float("inf")
    for _ in range(20):
        began = time.perf_counter()
        for _ in range(1000):
            touch(address, 1)
        best = min(best, (time.perf_counter() - began) / 1000)
    assert best < 2e-6
