"""Recording work as CUDA graphs that share one memory pool: they never run at the same time."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

Result = TypeVar("Result")


class GraphPool:
    """Whatever was captured in it must run on one stream, graph after graph."""

    def __init__(self) -> None:
        self._side = torch.cuda.Stream()
        self._handle = torch.cuda.graph_pool_handle()

    def capture(self, work: Callable[[], Result]) -> tuple[torch.cuda.CUDAGraph, Result]:
        """`work` as a graph, and what it returned: tensors that each replay fills anew.

        Runs it once before: kernels compile, libraries make workspaces. Waits for the device.
        """
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        # Not torch.cuda.graph: it collects garbage and gives the cached memory of prompts back,
        # which takes longer than the capture.
        with torch.cuda.stream(self._side), _no_garbage_collection():
            work()
            graph.capture_begin(pool=self._handle)
            try:
                result = work()
            finally:
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
