"""Dense MLP: gated or plain."""

from torch import Tensor, nn

from quire.kernels.activation.reference import ACTIVATIONS
from quire.kernels.table import LinearInput
from quire.layers.linear import Linear, Product
from quire.layers.parameters import Maker
from quire.models.recipe import MlpRecipe


class GatedMlp(nn.Module):
    """down(act(gate(x)) * up(x)), gate and up from one matmul, gate rows first."""

    def __init__(self, recipe: MlpRecipe, hidden: int, make: Maker) -> None:
        super().__init__()
        self.gate_up = Linear(make, hidden, 2 * recipe.size, recipe.bias, recipe.activation)
        self.down = Linear(make, recipe.size, hidden, recipe.bias)

    def forward(self, x: Tensor | LinearInput) -> Tensor | Product:
        """[T, E] -> [T, E]."""
        return self.down.later(self.gate_up(x))


class PlainMlp(nn.Module):
    """down(act(up(x)))."""

    def __init__(self, recipe: MlpRecipe, hidden: int, make: Maker) -> None:
        super().__init__()
        self.up = Linear(make, hidden, recipe.size, recipe.bias)
        self.down = Linear(make, recipe.size, hidden, recipe.bias)
        self._act = ACTIVATIONS[recipe.activation]

    def forward(self, x: Tensor | LinearInput) -> Tensor | Product:
        """[T, E] -> [T, E]."""
        return self.down.later(self._act(self.up(x)))


def make_mlp(recipe: MlpRecipe, hidden: int, make: Maker) -> GatedMlp | PlainMlp:
    return (GatedMlp if recipe.gated else PlainMlp)(recipe, hidden, make)
