"""The few stream and buffer calls the runner needs, the same on a CPU and a GPU.

What a device cannot do asynchronously is a no-op here, so that callers never branch on the
device. Deliberately no stream of our own: everything is queued on the current one, in order.
Runs in the worker.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from quire.platform.caps import DeviceCaps
from quire.platform.native import set_threads


class Event(Protocol):
    """A point in the device's queue."""

    def ready(self) -> bool:
        """Whether everything queued before it is done. Never waits."""
        ...

    def wait(self) -> None:
        """Return when everything queued before it is done."""
        ...


class _Done:
    """The event of a device that computes within the call: always done."""

    __slots__ = ()

    def ready(self) -> bool:
        return True

    def wait(self) -> None:
        return None


class _CudaEvent:
    """An event on the current CUDA stream. Blocking waits yield the core to other threads."""

    __slots__ = ("_event",)

    def __init__(self, device: torch.device) -> None:
        self._event = torch.cuda.Event(blocking=True)
        self._event.record(torch.cuda.current_stream(device))

    def ready(self) -> bool:
        return bool(self._event.query())

    def wait(self) -> None:
        self._event.synchronize()


_DONE = _Done()


def record_event(caps: DeviceCaps) -> Event:
    """Mark this point of the device's queue. The event stays valid for as long as it is held."""
    if caps.kind == "cpu":
        return _DONE
    return _CudaEvent(torch.device(caps.torch_device))


def pinned(shape: Sequence[int], dtype: torch.dtype, caps: DeviceCaps) -> Tensor:
    """An uninitialised host tensor of `shape` that the device can copy from asynchronously.

    A non-blocking copy out of it may outlive the Python object: torch's host allocator does
    not hand the memory out again before the copy is done.
    """
    return torch.empty(tuple(shape), dtype=dtype, pin_memory=caps.kind == "cuda")


def synchronize(caps: DeviceCaps) -> None:
    """Wait until the device has done everything queued so far."""
    if caps.kind == "cuda":
        torch.cuda.synchronize(torch.device(caps.torch_device))


def empty_cache(caps: DeviceCaps) -> None:
    """Give memory that torch caches but does not use back to the device."""
    if caps.kind == "cuda":
        torch.cuda.empty_cache()


def set_device(caps: DeviceCaps) -> None:
    """Make `caps` the current device of this thread (kernels launch on the current one). On a
    CPU: no more threads than cores we may use, which torch counts without a container's quota;
    fewer, if OMP_NUM_THREADS asked for fewer."""
    if caps.kind == "cuda":
        torch.cuda.set_device(torch.device(caps.torch_device))
    else:
        torch.set_num_threads(min(torch.get_num_threads(), caps.num_cores))
        set_threads(torch.get_num_threads())
