"""What a checkpoint fills: parameters, and layers that hold their weight in another layout.

Such a weight comes in dense, into memory of the layout's choice, and is converted once all of it is
there.
"""

import threading
from math import prod

import torch
from torch import Tensor, nn

from quire.layers.parameters import Weighted
from quire.quant.layouts.layout import Dense, Layout

Target = nn.Parameter | Layout


def fill_targets(model: nn.Module, *, tied: bool) -> dict[str, Target]:
    """Every name that can be filled; tied parameters under each of theirs if `tied`."""
    found: dict[str, Target] = dict(model.named_parameters(remove_duplicate=not tied))
    for name, module in model.named_modules():
        if isinstance(module, Weighted) and not isinstance(module.layout, Dense):
            held = [found.pop(f"{name}.{part}", None) for part in module.layout.tensors()]
            if held[0] is not None:
                found[f"{name}.weight"] = module.layout
    return found


class Staging:
    """Where the dense values of targets go, for several threads. What is given back is handed out
    again: a CPU takes as long to find new memory for a weight as to convert it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free: list[Tensor] = []
        self._lent: dict[int, Tensor] = {}  # by address

    def take(self, target: Target) -> Tensor:
        """Undefined values of the target's shape, perhaps in its own memory."""
        if isinstance(target, nn.Parameter):
            return target.detach()
        if (own := target.staging()) is not None:
            return own
        size = prod(target.shape)
        with self._lock:
            self._free.sort(key=Tensor.numel)
            index = next((i for i, b in enumerate(self._free) if b.numel() >= size), -1)
            memory = self._free.pop(index) if self._free else None
        if memory is None or memory.numel() < size:
            device = next(iter(target.tensors().values())).device
            memory = torch.empty(size, dtype=target.dtype, device=device)
        with self._lock:
            self._lent[memory.data_ptr()] = memory
        return memory[:size].view(target.shape)

    def give_back(self, dense: Tensor) -> None:
        """The values are not needed any more."""
        with self._lock:
            if (memory := self._lent.pop(dense.data_ptr(), None)) is not None:
                self._free.append(memory)
