"""Compiling kernels in threads, each once and all at once.

Triton compiles a kernel when it is first launched, 0.1 to 4 s each, 16 s one after the other for a
small model (H200 machine, 2026-11); the launch waits. It leaves the interpreter to others for some
four fifths of that. Work that is *listed* launches no kernel that is not compiled: these are left
out of it and then compile in threads. Elsewhere a launch waits for a compilation under way.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import triton

from quire.platform.caps import DeviceCaps
from quire.platform.streams import set_device

# So many at once: all of them together would take turns at reading their source, so that the one
# that takes longest would begin last.
THREADS = 6
# Triton asks the compile mode of the thread that launches, by these: what it compiles, and what
# makes the result the kernel of later launches.
Compile = Callable[[], triton.compiler.CompiledKernel]
Finish = Callable[[triton.compiler.CompiledKernel], None]


@triton.jit
def _nothing() -> None:
    """The first compilation sets the compiler up, in a second."""


class Compiler:
    """Threads that compile, and what they were given."""

    def __init__(self, caps: DeviceCaps) -> None:
        self._threads = ThreadPoolExecutor(
            THREADS, "quire-compile", initializer=partial(set_device, caps)
        )
        self._set_up = self._threads.submit(_nothing.warmup, grid=(1,))
        self._lock = threading.Lock()
        self._started: dict[str, Future[triton.compiler.CompiledKernel]] = {}

    def start(self, key: str, work: Compile) -> None:
        """Do `work` in a thread, unless that was started before by this key."""
        with self._lock:
            if key not in self._started:
                self._started[key] = self._threads.submit(_compile_and_load, work)

    def finish(self, key: str, work: Compile) -> triton.compiler.CompiledKernel:
        """What `work` gives: from the thread that does it, or done here if none has begun."""
        with self._lock:
            started = self._started.get(key)
            is_ours = started is None or started.cancel()
            future = Future() if started is None or is_ours else started
            self._started[key] = future
        if is_ours:
            try:
                future.set_result(_compile_and_load(work))
            except Exception as error:
                future.set_exception(error)
        return future.result()

    def listing(self) -> "Listing":
        """A context in which this thread launches no kernel that is not compiled."""
        self._set_up.result()
        return Listing(self)

    def launching(self) -> "Launching":
        """A context in which a launch waits for its kernel where that is compiling already."""
        return Launching(self)

    def close(self) -> None:
        """Wait for what compiles now, and give up the rest."""
        self._threads.shutdown(cancel_futures=True)


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


def _compile_and_load(work: Compile) -> triton.compiler.CompiledKernel:
    kernel = work()
    assert kernel.run is not None  # asking for it builds the launcher and loads the binary
    return kernel
