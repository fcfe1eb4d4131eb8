"""Recording work as CUDA graphs that share one memory pool: they never run at the same time."""

import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import torch

from quire.platform.caps import DeviceCaps
from quire.platform.memory import is_out_of_memory
from quire.platform.streams import empty_cache, synchronize

logger = logging.getLogger("quire")

Result = TypeVar("Result")


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
            work()
            graph.capture_begin(pool=self._handle)
            try:
                result = work()
            except BaseException:
                with suppress(RuntimeError):  # a capture that failed may not end well
                    graph.capture_end()
                raise
            graph.capture_end()
        torch.cuda.current_stream().wait_stream(self._side)
        return graph, result


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
