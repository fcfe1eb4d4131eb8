"""What the runner needs of a model."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from quire.kernels.batch import LayerCache, StepInputs
from quire.kernels.table import DecoderParts


class Model(Protocol):
    """The decoder or the fallback.

    `capturable`: the forward launches the same kernels for as many tokens whatever they are,
    and never waits for the device, so a CUDA graph of it can be replayed.
    `group_sizes`: by layer, how many query heads share a KV head; wanted if it is capturable.
    """

    capturable: bool
    group_sizes: Sequence[int]

    @property
    def logits_dtype(self) -> torch.dtype: ...

    def forward(
        self, inputs: StepInputs, kv: Sequence[LayerCache], wanted: Tensor | None = None
    ) -> Tensor:
        """Final hidden states of the tokens `wanted` [n], or of all [T, E]; writes the step's
        keys and values into `kv`."""

    def parts(self) -> DecoderParts | None:
        """What the op `decode` wants to know, if the model is of its kind."""

    def logits(self, hidden: Tensor) -> Tensor:
        """[n, E] -> [n, V] in `logits_dtype`, a new tensor."""
