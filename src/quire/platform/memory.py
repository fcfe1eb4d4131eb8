"""Large zeros, and memory as it is now: free on any device; in use, and its peak, on a GPU.

Measures and allocates; what to do with the numbers is the planner's. Runs in the worker.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from quire.platform.caps import DeviceCaps
from quire.platform.host import host_memory

_ALIGNMENT = 64  # bytes; a cache line, and what torch's own CPU allocator gives


def zeros(shape: Sequence[int], dtype: torch.dtype, caps: DeviceCaps) -> Tensor:
    """Zeros that on a CPU cost memory and time only where they are first written.

    torch.zeros writes every byte, 1.2 s a GiB on two busy cores (AMD EPYC, 2026-11), and makes
    all of it resident; numpy's come from calloc, so untouched pages do not exist yet.
    """
    if caps.kind == "cuda":
        return torch.zeros(tuple(shape), dtype=dtype, device=torch.device(caps.torch_device))
    size = math.prod(shape) * dtype.itemsize
    block = np.zeros(size + _ALIGNMENT, dtype=np.uint8)
    start = -block.ctypes.data % _ALIGNMENT
    return torch.from_numpy(block[start : start + size]).view(dtype).view(tuple(shape))


def free_bytes(caps: DeviceCaps) -> int:
    """Bytes that could be allocated now. On a GPU, torch's unused cache counts as free."""
    if caps.kind == "cpu":
        return host_memory()[1]
    device = torch.device(caps.torch_device)
    free, _ = torch.cuda.mem_get_info(device)
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(free + cached)


def is_out_of_memory(error: BaseException) -> bool:
    """torch's CPU allocator and CUDA itself say so only in the text of a RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        mark in str(error) for mark in ("can't allocate memory", "out of memory")
    )


def total_bytes(caps: DeviceCaps) -> int:
    return int(torch.cuda.mem_get_info(torch.device(caps.torch_device))[1])


def unreserved_bytes(caps: DeviceCaps) -> int:
    """Bytes of a GPU that torch has not taken, nor anybody else."""
    return int(torch.cuda.mem_get_info(torch.device(caps.torch_device))[0])


@dataclass(slots=True)
class Peak:
    """What a piece of work took at most: bytes of `tensors`, and of all that torch `reserved` for
    them."""

    tensors: int = 0
    reserved: int = 0


@contextmanager
def measured(caps: DeviceCaps) -> Iterator[Peak]:
    """Measure the work done meanwhile on a GPU; filled in when it ends."""
    peak = Peak()
    device = torch.device(caps.torch_device)
    torch.cuda.reset_peak_memory_stats(device)
    tensors, reserved = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
    yield peak
    peak.tensors = int(torch.cuda.max_memory_allocated(device) - tensors)
    peak.reserved = int(torch.cuda.max_memory_reserved(device) - reserved)
