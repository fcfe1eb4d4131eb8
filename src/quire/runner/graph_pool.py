"""Recording steps as CUDA graphs that share one memory pool: they never run at the same time."""

import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from quire.platform.caps import DeviceCaps
from quire.platform.memory import is_out_of_memory, measured, unreserved_bytes
from quire.platform.streams import empty_cache, synchronize
from quire.runner.buckets import CapturePolicy

logger = logging.getLogger("quire")

SLACK = 64 << 20  # torch reserves up to 20 MiB for a tensor that is smaller

Result = TypeVar("Result")
Inputs = TypeVar("Inputs")


class GraphPool:
    """Whatever was captured in it must run on one stream, graph after graph."""

    def __init__(self, caps: DeviceCaps) -> None:
        self._caps = caps
        self._warned = False
        self._side = torch.cuda.Stream()
        self._handle = torch.cuda.graph_pool_handle()

    def capture(self, work: Callable[[], Result]) -> tuple[torch.cuda.CUDAGraph, Result] | None:
        """`work` as a graph, and what it returned: tensors that each replay fills anew. None, with
        a warning the first time, where memory does not suffice.

        Runs it once before: kernels compile, libraries make workspaces. Waits for the device.
        """
        try:
            return self._record(work)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        synchronize(self._caps)
        empty_cache(self._caps)  # what the other stream has cached is of no use to this one
        if not self._warned:
            self._warned = True
            logger.warning(
                "not enough memory on %s for a CUDA graph: steps of that size run without one, "
                "slower; lower gpu_memory_utilization or kv_cache_memory_bytes",
                self._caps.name,
            )
        return None

    def _record(self, work: Callable[[], Result]) -> tuple[torch.cuda.CUDAGraph, Result]:
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        # Not torch.cuda.graph: it collects garbage and gives the cached memory of prompts back,
        # which takes longer than the capture.
        with torch.cuda.stream(self._side), _no_garbage_collection():
            with measured(self._caps) as took:
                work()
            self._make_room(took.tensors + SLACK)
            graph.capture_begin(pool=self._handle)
            try:
                result = work()
            finally:
                graph.capture_end()
        torch.cuda.current_stream().wait_stream(self._side)
        return graph, result

    def _make_room(self, needed: int) -> None:
        """See to it that so many bytes can be had: what torch caches it cannot give back while it
        captures, and a capture that fails leaves its allocator broken (torch 2.11).

        Raises:
            torch.OutOfMemoryError: there are not so many.
        """
        if unreserved_bytes(self._caps) < needed:
            synchronize(self._caps)
            empty_cache(self._caps)
            if (left := unreserved_bytes(self._caps)) < needed:
                raise torch.OutOfMemoryError(f"{left} bytes are left, a capture takes {needed}")


@dataclass(frozen=True, slots=True)
class Captured(Generic[Inputs]):
    """A graph, the static inputs that it reads and the tensor that each replay fills anew."""

    graph: torch.cuda.CUDAGraph
    inputs: Inputs
    output: Tensor


class BucketGraphs(Generic[Inputs]):
    """The graphs of one kind of step.

    Args:
        policy: which bucket serves, and which is captured when.
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
        """The graph to run a step of that size in, None to run it without one. Waits for the
        device only when it captures."""
        bucket = self._policy.choose(count)
        if bucket is None:
            return None
        return self._captured.get(bucket) or self._capture(bucket)

    def capture_ahead(self) -> bool:
        """Capture one graph while there is nothing else to do; False if none is worth it."""
        bucket = self._policy.ahead()
        if bucket is not None:
            self._capture(bucket)
        return bucket is not None

    def _capture(self, bucket: int) -> Captured[Inputs] | None:
        inputs = self._prepare(bucket)
        recorded = self._pool.capture(lambda: self._step(inputs))
        if recorded is None:
            self._policy.refused.add(bucket)
            return None
        logger.debug("captured a CUDA graph of %d %s", bucket, type(inputs).__name__)
        captured = self._captured[bucket] = Captured(recorded[0], inputs, recorded[1])
        self._policy.captured.add(bucket)
        return captured


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """What it frees may not be freed while a graph is captured."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
