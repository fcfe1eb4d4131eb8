"""Linear: y = x W^T + b, the weight in a layout that the model was built for."""

from torch import Tensor

from quire.kernels.table import LinearParts
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
        self._product = make.linear(self.layout, self.bias, activation)

    def forward(self, x: Tensor) -> Tensor:
        """[T, in] -> [T, out]."""
        return self._product(x)

    def parts(self) -> LinearParts:
        return LinearParts(self.layout, self.bias)
