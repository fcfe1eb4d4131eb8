"""The few stream and buffer calls the runner needs, the same on a CPU and a GPU.

What a device cannot do asynchronously is a no-op here, so that callers never branch on the
device. Deliberately no stream of our own: everything is queued on the current one, in order.
Runs in the worker.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from quire.platform.caps import DeviceCaps
from quire.platform.native import set_threads


class Event:
    """This point of the device's queue, at construction; a CPU computes within the call, so it is
    always past. Valid for as long as it is held."""

    __slots__ = ("_event",)

    def __init__(self, device: torch.device) -> None:
        self._event: torch.cuda.Event | None = None
        if device.type == "cuda":
            # A blocking wait yields the core to other threads.
            self._event = torch.cuda.Event(blocking=True)
            self._event.record(torch.cuda.current_stream(device))

    def ready(self) -> bool:
        """Whether everything queued before it is done. Never waits."""
        return self._event is None or bool(self._event.query())

    def wait(self) -> None:
        """Return when everything queued before it is done."""
        if self._event is not None:
            self._event.synchronize()


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
