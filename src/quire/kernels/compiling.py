"""Compiling kernels in threads and processes, each once and all at once.

Triton compiles a kernel when it is first launched, 0.1 to 4 s each, 16 s one after the other for a
small model (H200 machine, 2026-11); the launch waits. It leaves the interpreter to others for some
four fifths of that. Work that is *listed* launches no kernel that is not compiled: these are left
out of it and then compile in threads. Elsewhere a launch waits for a compilation under way.

Each thread has a process compile its kernel first (`compile_process`), and then finds the result
in Triton's cache. Where a process does not do it, or not in a minute, the thread does. Who waits
for a thread says every minute what for.
"""

import contextlib
import hashlib
import inspect
import logging
import queue
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from multiprocessing import connection
from pathlib import Path
from typing import TypeVar

import triton
from triton.runtime.cache import get_cache_manager, triton_key

from quire.core import env
from quire.kernels.compile_process import task_of
from quire.platform.caps import DeviceCaps
from quire.platform.host import num_cores
from quire.platform.interpreter import module_command
from quire.platform.streams import set_device

logger = logging.getLogger(__name__)

THREADS = 8
LIMIT = 60.0  # seconds that a process may take for a kernel, its own start included
IDLE = 90.0  # after which processes end: not while one may be at work
NOTICE = 60.0  # seconds between two words of who waits
# Triton asks the compile mode of the thread that launches, by these: what it compiles, and what
# makes the result the kernel of later launches.
Compile = Callable[[], triton.compiler.CompiledKernel]
Finish = Callable[[triton.compiler.CompiledKernel], None]
Result = TypeVar("Result")


@triton.jit
def _nothing() -> None:
    """The first compilation sets the compiler up, in a second."""


class Compiler:
    """Threads that compile, and what they were given."""

    def __init__(self, caps: DeviceCaps) -> None:
        number = min(THREADS, num_cores())
        self._threads = ThreadPoolExecutor(
            number, "quire-compile", initializer=partial(set_device, caps)
        )
        # Whoever waits compiles, too. On few cores threads are as fast.
        self._processes = _Processes(number + 1 if number >= 4 else 0)
        self._threads.submit(triton_key)  # reads 400 MB, while the set-up runs a C compiler
        self._set_up = self._threads.submit(_nothing.warmup, grid=(1,))
        self._lock = threading.Lock()
        self._started: dict[str, Future[triton.compiler.CompiledKernel]] = {}

    def start(self, key: str, work: Compile) -> None:
        """Do `work` in a thread, unless that was started before by this key."""
        with self._lock:
            if key not in self._started:
                self._started[key] = self._threads.submit(self._compile, key, work)

    def finish(self, key: str, work: Compile) -> triton.compiler.CompiledKernel:
        """What `work` gives: from the thread that does it, or done here if none has begun."""
        with self._lock:
            future = self._started.get(key)
            is_ours = future is None or future.cancel()
            if future is None or is_ours:
                future = self._started[key] = Future()
                future.set_running_or_notify_cancel()  # nobody else takes it over
        if is_ours:
            try:
                future.set_result(self._compile(key, work))
            except BaseException as error:
                future.set_exception(error)
        return _awaited(future, _name_of(work))

    def listing(self) -> "Listing":
        """A context in which this thread launches no kernel that is not compiled."""
        _awaited(self._set_up, "Triton's first kernel and C library")
        return Listing(self)

    def launching(self) -> "Launching":
        """A context in which a launch waits for its kernel where that is compiling already."""
        return Launching(self)

    def close(self) -> None:
        """Wait for what compiles now, and give up the rest."""
        self._threads.shutdown(cancel_futures=True)
        self._processes.close()

    def _compile(self, key: str, work: Compile) -> triton.compiler.CompiledKernel:
        with contextlib.suppress(KeyError, TypeError):  # what no process can be told of
            names = inspect.getclosurevars(work).nonlocals  # of the closure that Triton hands over
            source = names["src"]
            if not _is_compiled(key, source.name):
                task = task_of(source, names["target"], vars(names["options"]))
                self._processes.compile(source.name, task)
        kernel = work()
        assert kernel.run is not None  # asking for it builds the launcher and loads the binary
        return kernel


class _Processes:
    """As many processes as compile at once. They take a second to begin, so they do so where
    nothing is compiled yet, and elsewhere with the first kernel that is not. When nothing was asked
    of them for a while they end: what is compiled later, between steps, is left to threads."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._lock = threading.Lock()
        self._all: list[subprocess.Popen[bytes]] = []
        self._free: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
        self._end = threading.Timer(IDLE, self.close)
        if not any(Path(triton.knobs.cache.dir).glob("*")):
            self._begin()

    def compile(self, name: str, task: bytes) -> None:
        """Do it in a process that is free, if there is one. One that is stuck is killed."""
        self._begin()
        with contextlib.suppress(queue.Empty, BrokenPipeError):
            process = self._free.get_nowait()
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(task)
            if not connection.wait([process.stdout.fileno()], LIMIT):
                logger.warning(
                    "kernel %s: no process compiled it in %g s; a thread does", name, LIMIT
                )
                process.kill()
            elif process.stdout.readline():
                self._free.put(process)

    def close(self) -> None:
        with self._lock:
            self._number = 0
            self._end.cancel()
        for process in self._all:
            process.kill()
        for process in self._all:  # in nobody's way: it may be long, where a disk does not answer
            process.wait()

    def _begin(self) -> None:
        with self._lock:
            while len(self._all) < self._number:
                process = subprocess.Popen(
                    module_command("quire.kernels.compile_process"),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    bufsize=0,
                    env=env.for_helper(),
                    start_new_session=True,  # Ctrl-C in a terminal is not for it
                )
                self._all.append(process)
                self._free.put(process)
            self._end.cancel()
            if self._number:
                self._end = threading.Timer(IDLE, self.close)
                self._end.daemon = True
                self._end.start()


class Listing(triton.AsyncCompileMode):
    """The kernels that were left out of what this context held."""

    def __init__(self, compiler: Compiler) -> None:
        super().__init__(None)
        self._compiler = compiler
        self._missing: dict[str, tuple[Compile, Finish]] = {}

    def submit(self, key: str, work: Compile, finish: Finish, *_: object) -> None:
        """None for a kernel: Triton launches nothing."""
        self._missing[key] = work, finish

    @property
    def missing(self) -> bool:
        """Whether kernels were left out."""
        return bool(self._missing)

    def start(self) -> None:
        """Compile them in threads."""
        for key, (work, _) in self._missing.items():
            self._compiler.start(key, work)

    def wait(self) -> None:
        """Return when they are compiled. Raises what the compiler raised."""
        self.start()
        for key, (work, finish) in self._missing.items():
            finish(self._compiler.finish(key, work))


class Launching(triton.AsyncCompileMode):
    """A kernel that is not compiled is awaited if a thread has begun with it."""

    def __init__(self, compiler: Compiler) -> None:
        super().__init__(None)
        self._compiler = compiler

    def submit(
        self, key: str, work: Compile, finish: Finish, *_: object
    ) -> triton.compiler.CompiledKernel:
        kernel = self._compiler.finish(key, work)
        finish(kernel)
        return kernel


def _is_compiled(key: str, name: str) -> bool:
    """Whether Triton's cache has it."""
    files = get_cache_manager(hashlib.sha256(key.encode()).hexdigest())
    return files.get_group(f"{name[:150]}.json") is not None


def _awaited(future: "Future[Result]", what: str) -> Result:
    """What it gives."""
    while True:
        try:
            return future.result(NOTICE)
        except TimeoutError:
            if future.done():  # just now, or by an error of that kind
                return future.result()
        logger.warning("%s: waited %g s for it to be compiled, and go on waiting", what, NOTICE)


def _name_of(work: Compile) -> str:
    with contextlib.suppress(KeyError, TypeError):
        return f"kernel {inspect.getclosurevars(work).nonlocals['src'].name}"
    return "a kernel"
