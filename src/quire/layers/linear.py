"""Linear: y = x W^T + b, the weight in a layout that the model was built for."""

from collections.abc import Callable
from typing import NamedTuple, cast

from torch import Tensor

from quire.kernels.table import LinearInput, LinearParts, NormParts
from quire.layers.parameters import Maker, Weighted


class Linear(Weighted):
    """`weight` [out, in], or whatever tensors its layout has, and `bias` [out] or None.

    With an `activation` the rows are gate, then up, and the output is act(gate) * up [out / 2].
    """

    def __init__(
        self,
        make: Maker,
        inputs: int,
        outputs: int,
        bias: bool = False,
        activation: str | None = None,
    ) -> None:
        super().__init__(make.layout.empty(outputs, inputs, make.dtype, make.device))
        self.bias = make.empty(outputs) if bias else None
        product = make.ops.linear(self.layout, self.bias, activation)
        self._product = cast("Callable[[Tensor | LinearInput], Tensor]", product)  # see `Ops`
        add_norm = make.ops.linear_add_norm
        self._add_norm = None if add_norm is None else add_norm(self.layout, self.bias)

    def forward(self, x: Tensor | LinearInput) -> Tensor:
        """[T, in] -> [T, out]."""
        return self._product(x)

    def later(self, x: Tensor) -> "Tensor | Product":
        """[T, in] -> [T, out], to be computed by the norm that comes next if that can be part of
        it."""
        return self.forward(x) if self._add_norm is None else Product(self, x)

    def add_norm(self, x: Tensor, residual: Tensor, norm: NormParts) -> LinearInput | None:
        """x [T, in], residual [T, out] -> norm(x W^T + b + residual) for linear layers; None where
        one after the other is as fast."""
        return None if self._add_norm is None else self._add_norm(x, residual, norm)

    def parts(self) -> LinearParts:
        return LinearParts(self.layout, self.bias)


class Product(NamedTuple):
    """A linear layer's output [T, out] that has not been computed."""

    linear: Linear
    x: Tensor


def computed(x: Tensor | Product) -> Tensor:
    return x if isinstance(x, Tensor) else x.linear.forward(x.x)
