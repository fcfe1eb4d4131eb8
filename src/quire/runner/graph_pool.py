"""Recording steps as CUDA graphs that share one memory pool: they never run at the same time.

A capture runs nothing. It may be made in one thread while another queues steps: that one's calls
do not count as part of it, and the allocator tells the two apart by their streams.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from torch import Tensor

from quire.core.garbage import uncollected
from quire.platform.caps import DeviceCaps
from quire.platform.memory import is_out_of_memory, unreserved_bytes
from quire.platform.streams import empty_cache
from quire.runner.buckets import CapturePolicy

if TYPE_CHECKING:
    from quire.kernels.compiling import Compiler, Listing

logger = logging.getLogger("quire")

SLACK = 64 << 20  # torch reserves up to 20 MiB for a tensor that is smaller

Inputs = TypeVar("Inputs")


@dataclass(frozen=True, slots=True)
class Recorded:
    """A capture and what its work returned: a tensor that each replay fills anew. Of no use but to
    know which kernels it is `without`, if there are any."""

    graph: torch.cuda.CUDAGraph
    output: Tensor
    without: "Listing"


class GraphPool:
    """Whatever was captured in it must run on one stream, graph after graph.

    Args:
        compiler: of the kernels that captures launch.
        room: bytes that a capture may take.

    `missed` is set when a step has not the graph that it should have.
    """

    def __init__(self, caps: DeviceCaps, compiler: "Compiler", room: int) -> None:
        self.compiler = compiler
        self.missed = threading.Event()
        self._caps, self._room = caps, room
        self._warned = False
        self._side = torch.cuda.Stream()
        self._handle = torch.cuda.graph_pool_handle()
        device = torch.device(caps.torch_device)
        _open_blas(device)  # for the steps, too, before the memory left is counted
        # Torch does not take a pool again that has no graph left.
        self._first = self.record(partial(torch.zeros, 1, device=device))

    def record(self, work: Callable[[], Tensor]) -> Recorded:
        """`work` as a graph, without kernels that are not compiled."""
        graph = torch.cuda.CUDAGraph(keep_graph=True)
        # Not torch.cuda.graph: it collects garbage and gives the cached memory of prompts back,
        # which takes longer than the capture. Nor may a collection free anything meanwhile.
        with torch.cuda.stream(self._side), uncollected():
            with self.compiler.listing() as without:
                _open_blas(self._side.device)
                graph.capture_begin(pool=self._handle, capture_error_mode="thread_local")
                try:
                    output = work()
                finally:
                    graph.capture_end()
            if not without.missing:
                graph.instantiate()
        return Recorded(graph, output, without)

    def has_room(self) -> bool:
        """Whether memory suffices for a capture; a warning the first time that it does not. What
        torch caches it cannot give back while it captures, and a capture that fails leaves its
        allocator broken (torch 2.11)."""
        needed = self._room + SLACK
        if unreserved_bytes(self._caps) < needed:
            empty_cache(self._caps)
            if unreserved_bytes(self._caps) < needed:
                self._warn()
                return False
        return True

    def capture(
        self, prepare: Callable[[], Inputs], step: Callable[[Inputs], Tensor]
    ) -> "Captured[Inputs] | None":
        """`step` on what `prepare` gives as a graph; waits for its kernels. None, with a warning
        the first time, where memory does not suffice."""
        try:
            while self.has_room():
                inputs = prepare()  # anew: a first try may have left what it computed in them
                recorded = self.record(partial(step, inputs))
                if not recorded.without.missing:
                    return Captured(recorded.graph, inputs, recorded.output)
                recorded.without.wait()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            self._warn()
        return None

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "not enough memory on %s for a CUDA graph: steps of that size run without one, "
                "slower; lower gpu_memory_utilization or kv_cache_memory_bytes",
                self._caps.name,
            )


@dataclass(frozen=True, slots=True)
class Captured(Generic[Inputs]):
    """A graph, the static inputs that it reads and the tensor that each replay fills anew."""

    graph: torch.cuda.CUDAGraph
    inputs: Inputs
    output: Tensor


class BucketGraphs(Generic[Inputs]):
    """The graphs of one kind of step. One thread may choose while another captures.

    Args:
        policy: which bucket serves, and which is captured next.
        prepare: bucket -> static inputs, of no sequence at first.
        step: what is recorded, on such inputs.
    """

    def __init__(
        self,
        pool: GraphPool,
        policy: CapturePolicy,
        prepare: Callable[[int], Inputs],
        step: Callable[[Inputs], Tensor],
    ) -> None:
        self._pool, self._policy = pool, policy
        self._prepare, self._step = prepare, step
        self._captured: dict[int, Captured[Inputs]] = {}

    def choose(self, count: int) -> Captured[Inputs] | None:
        """The graph to run a step of that size in, None to run it without one."""
        bucket = self._policy.choose(count)
        if bucket != self._policy.bucket(count):
            self._pool.missed.set()
        return None if bucket is None else self._captured[bucket]

    def captured(self, count: int) -> Captured[Inputs] | None:
        """The graph that a step of that size has of its own; not told of the step."""
        return self._captured.get(self._policy.bucket(count))

    def list_kernels(self, bucket: int) -> "Listing":
        """The kernels of a bucket's graph that are not compiled."""
        return self._pool.record(partial(self._step, self._prepare(bucket))).without

    def compile_ahead(self) -> None:
        """Start to compile what will be captured ahead of any need."""
        if self._pool.has_room():
            for bucket in self._policy.ladder:
                self.list_kernels(bucket).start()

    def capture_next(self, idle: bool) -> bool:
        """Capture what is wanted most, or when idle what might be; False if there is nothing."""
        bucket = self._policy.wanted()
        if bucket is None and idle:
            bucket = self._policy.ahead()
        if bucket is None:
            return False
        captured = self._pool.capture(lambda: self._prepare(bucket), self._step)
        if captured is None:
            self._policy.refused.add(bucket)
        else:
            logger.debug("captured a CUDA graph of %d %s", bucket, type(captured.inputs).__name__)
            self._captured[bucket] = captured
            self._policy.captured.add(bucket)
        return True


def _open_blas(device: torch.device) -> None:
    """Give this thread and the current stream their library handle and its workspace: a capture
    cannot."""
    one = torch.ones(16, 16, dtype=torch.bfloat16, device=device)
    torch.mm(one, one)
