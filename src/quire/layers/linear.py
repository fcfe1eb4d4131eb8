"""Linear: y = x W^T + b. The seam where quantized weight layouts will plug in."""

from torch import Tensor, nn
from torch.nn import functional as F

from quire.layers.parameters import Maker


class Linear(nn.Module):
    """`weight` [out, in] and `bias` [out] or None."""

    def __init__(self, make: Maker, inputs: int, outputs: int, bias: bool = False) -> None:
        super().__init__()
        self.weight = make.empty(outputs, inputs)
        self.bias = make.empty(outputs) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return F.linear(x, self.weight, self.bias)
