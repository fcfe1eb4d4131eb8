"""Small host arrays to the device without waiting for it."""

import numpy as np
import torch
from torch import Tensor


def upload(array: np.ndarray, device: torch.device) -> Tensor:
    """A device copy of `array` that later changes to `array` do not reach.

    On a GPU the copy goes through pinned memory of its own and is queued, not awaited: a step
    that is still waiting in the queue must not see what the host writes for the next one.
    torch's host allocator does not hand the pinned memory out again before the copy is done.
    """
    source = torch.from_numpy(np.ascontiguousarray(array))
    if device.type == "cpu":
        return source.clone()
    staging = torch.empty(source.shape, dtype=source.dtype, pin_memory=device.type == "cuda")
    staging.copy_(source)
    return staging.to(device, non_blocking=True)
