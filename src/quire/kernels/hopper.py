"""Whether a device is a Hopper (compute capability 9.0), which some kernels are written for."""

import functools

import torch


@functools.cache
def num_cores(device: torch.device) -> int:
    """Multiprocessors of a Hopper, 0 of anything else."""
    if device.type != "cuda" or torch.version.cuda is None:
        return 0
    if torch.cuda.get_device_capability(device) != (9, 0):
        return 0
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
