"""`load_format="dummy"`: made-up weights, for measuring speed and memory without a checkpoint.

Deterministic: a parameter's values depend on the seed, its name and its shape only, not on the
device or on the order of loading. The text such a model writes is noise, and finite.
"""

import zlib
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from quire.platform.host import num_cores
from quire.weights.targets import Staging, Target, fill_targets

# Values drawn per parameter; repeated to fill it. A prime, so that rows of a matrix differ.
BLOCK = 262_139
MAX_THREADS = 4


def fill_dummy(model: nn.Module, seed: int = 0) -> None:
    """Fill every parameter of `model` in place, several at a time: most of it is the system
    finding memory for them.

    Matrices are uniform in ±fan_in**-0.5, so that activations neither die nor grow; vectors
    called weight (norms) are near 1, other vectors (biases) near 0.
    """
    targets, staging = fill_targets(model, tied=False), Staging()
    with ThreadPoolExecutor(min(MAX_THREADS, num_cores()), "quire-load") as threads:
        for done in [threads.submit(_fill, *target, seed, staging) for target in targets.items()]:
            done.result()


@torch.inference_mode()
def _fill(name: str, target: Target, seed: int, staging: Staging) -> None:
    parameter = staging.take(target)
    if parameter.numel() == 0:
        return
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}:{name}".encode()))
    size = min(BLOCK, parameter.numel())
    values = torch.rand(size, generator=generator).mul_(2).sub_(1)
    if parameter.ndim >= 2:
        values.mul_(parameter.shape[-1] ** -0.5)
    else:
        values.mul_(1e-3).add_(1.0 if name.endswith("weight") else 0.0)
    _tile(parameter, values)
    if not isinstance(target, nn.Parameter):
        target.fill(parameter)
        staging.give_back(parameter)


def _tile(destination: Tensor, values: Tensor) -> None:
    """Repeat `values` over `destination`: one upload, then copies of doubling length."""
    flat = destination.view(-1)
    flat[: values.numel()].copy_(values)
    done = values.numel()
    while done < flat.numel():
        count = min(done, flat.numel() - done)
        flat[done : done + count].copy_(flat[:count])
        done += count
