"""How sublayers sit in the residual stream.

Between sublayers the stream is carried as two tensors, `delta` and `residual`. An open stream
is their sum, not yet added, so that the next norm can add and normalise in one kernel, or be part
of the product that gives `delta`, which is then not computed yet; a closed one is `delta` alone.
Which of the two it is at each point is known when the model is built.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from quire.kernels.table import LinearInput
from quire.layers.linear import Product, computed
from quire.layers.norm import Norm, RmsNorm

# (delta [T, E], residual [T, E]) -> (the sublayer's input, the stream)
Enter = Callable[[Tensor | Product, Tensor], tuple[Tensor, Tensor]]
EnterLinear = Callable[[Tensor | Product, Tensor], tuple[Tensor | LinearInput, Tensor]]
# (the sublayer's output, the stream) -> (delta, residual)
Leave = Callable[[Tensor | Product, Tensor], tuple[Tensor | Product, Tensor]]


def make_enter(before: Norm | None, stream_open: bool) -> Enter:
    """Bring the stream together and normalise a sublayer's input."""
    if before is None:
        return _add if stream_open else _take
    if stream_open:
        return before.add
    norm = before

    def enter(delta: Tensor | Product, _: Tensor) -> tuple[Tensor, Tensor]:
        stream = computed(delta)
        return norm(stream), stream

    return enter


def make_enter_linear(before: Norm | None, stream_open: bool) -> EnterLinear:
    """As `make_enter`, for a sublayer that gives its input to linear layers alone."""
    if stream_open and isinstance(before, RmsNorm):
        return before.begin
    return make_enter(before, stream_open)


def make_leave(after: Norm | None, after_residual: Norm | None, multiplier: float) -> Leave:
    """Put a sublayer's output back; the stream is open afterwards unless `after_residual`."""
    finish = _scaled(after, multiplier)
    if after_residual is None:
        return lambda out, residual: (finish(out), residual)
    close = after_residual.add

    def leave(out: Tensor | Product, residual: Tensor) -> tuple[Tensor, Tensor]:
        stream, _ = close(finish(out), residual)
        return stream, stream

    return leave


def _scaled(
    after: Norm | None, multiplier: float
) -> Callable[[Tensor | Product], Tensor | Product]:
    if after is None and multiplier == 1.0:
        return lambda out: out
    if after is None:
        return lambda out: computed(out) * multiplier
    norm = after
    if multiplier == 1.0:
        return lambda out: norm(computed(out))
    return lambda out: norm(computed(out)) * multiplier


def _add(delta: Tensor | Product, residual: Tensor) -> tuple[Tensor, Tensor]:
    total = torch.add(computed(delta), residual)
    return total, total


def _take(delta: Tensor | Product, _: Tensor) -> tuple[Tensor, Tensor]:
    stream = computed(delta)
    return stream, stream
