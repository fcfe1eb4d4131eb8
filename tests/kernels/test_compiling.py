"""Kernels compile once, in threads, and are left out of what lists them."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("triton")

from triton.runtime import _async_compile

from quire.kernels import compiling
from quire.kernels.compiling import THREADS, Compiler
from quire.platform.detect import detect


@pytest.fixture
def compiler() -> Iterator[Compiler]:
    compiler = Compiler(detect("cpu"))
    # The first compilation needs a GPU.
    compiler._set_up = compiler._threads.submit(lambda: None)
    yield compiler
    compiler.close()


class Kernel:
    """Compiles when it is released, and counts how often."""

    def __init__(self) -> None:
        self.compiled = 0
        self.begun, self.release = threading.Event(), threading.Event()
        self.finished: list[object] = []

    def __call__(self) -> SimpleNamespace:
        self.begun.set()
        assert self.release.wait(5.0)
        self.compiled += 1
        return SimpleNamespace(run=print)

    def launch(self, key: str = "key") -> object:
        """What Triton does for a kernel that it does not have."""
        mode = _async_compile.active_mode.get()
        assert mode is not None
        return mode.submit(key, self, self.finished.append, lambda _: None)


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_listed_kernel_is_not_launched_and_compiles_when_told(compiler: Compiler) -> None:
    kernel = Kernel()
    with compiler.listing() as listed:
        assert not listed.missing
        assert kernel.launch() is None
        assert kernel.launch() is None
    assert listed.missing
    assert not kernel.begun.is_set()
    listed.start()
    assert kernel.begun.wait(5.0)
    assert kernel.finished == []
    kernel.release.set()
    listed.wait()
    assert kernel.compiled == 1
    assert len(kernel.finished) == 1


def test_a_launch_waits_for_a_compilation_under_way(compiler: Compiler) -> None:
    kernel = Kernel()
    with compiler.listing() as listed:
        kernel.launch()
    listed.start()
    assert kernel.begun.wait(5.0)
    launched: list[object] = []

    def launch() -> None:
        with compiler.launching():
            launched.append(kernel.launch())

    thread = in_thread(launch)
    kernel.release.set()
    thread.join(5.0)
    listed.wait()
    assert kernel.compiled == 1
    assert launched == kernel.finished[:1] == kernel.finished[1:]


def test_a_launch_compiles_at_once_what_waits_for_its_turn(compiler: Compiler) -> None:
    slow, wanted = Kernel(), Kernel()
    with compiler.listing() as listed:
        for number in range(THREADS):
            slow.launch(f"slow {number}")
        wanted.launch("wanted")
    listed.start()
    assert slow.begun.wait(5.0)
    wanted.release.set()
    with compiler.launching():
        assert wanted.launch("wanted") is not None
    assert slow.compiled == 0
    slow.release.set()
    listed.wait()
    assert (slow.compiled, wanted.compiled) == (THREADS, 1)


def test_an_error_of_the_compiler_reaches_whoever_waits(compiler: Compiler) -> None:
    def broken() -> None:
        raise ValueError("out of registers")

    with compiler.listing() as listed:
        mode = _async_compile.active_mode.get()
        assert mode is not None
        mode.submit("key", broken, print, print)
    with pytest.raises(ValueError, match="out of registers"):
        listed.wait()
    with compiler.launching():
        mode = _async_compile.active_mode.get()
        assert mode is not None
        with pytest.raises(ValueError, match="out of registers"):
            mode.submit("key", broken, print, print)


def test_launches_of_a_kernel_that_nobody_began_compile_it_once(compiler: Compiler) -> None:
    kernel = Kernel()
    launched: list[object] = []

    def launch() -> None:
        with compiler.launching():
            launched.append(kernel.launch())

    first = in_thread(launch)
    assert kernel.begun.wait(5.0)
    second = in_thread(launch)
    second.join(0.1)
    assert second.is_alive()
    kernel.release.set()
    first.join(5.0)
    second.join(5.0)
    assert kernel.compiled == 1
    assert launched == kernel.finished
    assert len(launched) == 2


def test_who_waits_long_says_what_for(
    compiler: Compiler, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compiling, "NOTICE", 0.01)
    kernel, src = Kernel(), SimpleNamespace(name="narrow_kernel")

    def work() -> SimpleNamespace:
        return kernel() if src else SimpleNamespace()

    with compiler.listing() as listed:
        mode = _async_compile.active_mode.get()
        assert mode is not None
        mode.submit("key", work, print, print)
    listed.start()
    assert kernel.begun.wait(5.0)
    threading.Timer(0.1, kernel.release.set).start()
    listed.wait()
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    assert "kernel narrow_kernel: waited 0.01 s" in caplog.text


TRITON = """
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
import torch, triton
import triton.language as tl
from quire.kernels.compiling import Compiler
from quire.platform.detect import detect

class Utils:
    def load_binary(self, *a): return "module", "function", 8, 0, 1024
    def get_device_properties(self, device): return {"max_shared_mem": 1 << 16}
    def unload_module(self, module): pass

class Driver:
    utils = Utils()
    def launcher_cls(self, src, metadata): return lambda *a, **k: print("launched", metadata.name)
    def get_current_device(self): return 0
    def get_current_stream(self, device): return 0
    def get_current_target(self): return GPUTarget("cuda", 90, 32)
    def map_python_to_cpp_type(self, name): return name

@triton.jit
def fill(out, SIZE: tl.constexpr):
    tl.store(out + tl.arange(0, SIZE), 1.0)

if __name__ == "__main__":
    driver.set_active(Driver())
    compiler, out = Compiler(detect("cpu")), torch.empty(64)
    with compiler.listing() as listed:
        fill[1,](out, SIZE=16)
        fill[1,](out, SIZE=32)
    print(listed.missing, len(listed._missing))
    listed.wait()
    with compiler.listing() as listed:
        fill[1,](out, SIZE=16)
    print(listed.missing)
    with compiler.launching():
        fill[1,](out, SIZE=64)
    compiler.close()
"""


def test_a_process_that_has_ended_leaves_its_kernel_to_the_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiling, "module_command", lambda module: ["true"])
    processes = compiling._Processes(2)
    for _ in range(4):
        processes.compile("kernel", b"task\n")
    processes.close()
    processes.compile("kernel", b"task\n")
    assert [process.returncode is None for process in processes._all] == [False, False]


def test_processes_end_when_nothing_is_asked_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "module_command", lambda module: ["cat"])
    monkeypatch.setattr(compiling, "IDLE", 0.2)
    processes = compiling._Processes(1)
    processes.compile("kernel", b"task\n")
    (process,) = processes._all
    assert process.poll() is None
    assert process.wait(5.0) != 0
    processes.compile("kernel", b"task\n")
    assert processes._all == [process]


def test_a_process_that_is_stuck_leaves_its_kernel_to_the_thread(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compiling, "module_command", lambda module: ["sleep", "100"])
    monkeypatch.setattr(compiling, "LIMIT", 0.1)
    processes = compiling._Processes(1)
    for _ in range(2):
        processes.compile("narrow_kernel", b"task\n")
    (process,) = processes._all
    assert process.wait(5.0) != 0
    processes.close()
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "kernel narrow_kernel: no process compiled it in 0.1 s" in record.getMessage()


CHILDREN = """
import subprocess
from quire.kernels import compile_process
compile_process.run = lambda line: subprocess.run(["cat"])
compile_process.main()
"""


def test_what_a_process_runs_leaves_it_the_other_kernels() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", CHILDREN], input=b"1\n2\n", capture_output=True, timeout=100
    )
    assert ran.stdout == b"\n\n", ran.stderr


PROCESSES = (
    TRITON.partition("if __name__")[0]
    + """
from quire.kernels import compiling
from quire.kernels.sample.triton_sample import sample
from quire.kernels.table import DrawNumbers

if __name__ == "__main__":
    driver.set_active(Driver())
    compiling.num_cores = lambda: 4
    compiler, ones = Compiler(detect("cpu")), torch.ones(4)
    numbers = torch.zeros(4, dtype=torch.int64)
    with compiler.listing() as listed:
        drawn = DrawNumbers(ones, numbers.int(), ones, ones, numbers, numbers)
        sample(torch.zeros(4, 100), drawn)
        fill[1,](ones, SIZE=4)  # which no process can import
    found = {}
    def note(*, src, cache_hit, **_):
        found[src.name] = cache_hit
    triton.knobs.compilation.listener = note
    listed.wait()
    print(sorted(found.items()))
    compiler.close()
"""
)


def run_without_interpreter(program: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """With a driver that launches nothing, and not in Triton's interpreter."""
    (folder / "program.py").write_text(program)
    environment = {name: value for name, value in os.environ.items() if "TRITON" not in name}
    environment |= {
        "TRITON_CACHE_DIR": str(folder / "cache"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, folder / "program.py"]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100)


def test_processes_put_into_the_cache_what_threads_then_find(tmp_path: Path) -> None:
    ran = run_without_interpreter(PROCESSES, tmp_path)
    kernels = ("check_kernel", "draw_kernel", "narrow_kernel", "survey_kernel")
    expected = [*((name, True) for name in kernels), ("fill", False)]
    assert ran.stdout == f"{sorted(expected)}\n", ran.stderr


def test_triton_itself_compiles_so(tmp_path: Path) -> None:
    ran = run_without_interpreter(TRITON, tmp_path)
    assert ran.stdout.splitlines() == ["True 2", "launched fill", "False", "launched fill"], (
        ran.stderr
    )
