"""Parameters of a recipe's decoder, by part: counted on torch's meta device, without memory."""

from dataclasses import dataclass

import torch

from quire.kernels.select import torch_ops
from quire.models.decoder import Decoder
from quire.models.recipe import MoeRecipe, Recipe


@dataclass(frozen=True, slots=True)
class ParameterCount:
    """How many numbers each part holds, a tied head counted once.

    Args:
        parts: "embedding" (positions and projections included), "attention", "mlp" (dense
            MLPs, routers and experts), "norms" and "head".
        active: what one token passes through: of the experts, `top_k`.
    """

    parts: dict[str, int]
    active: int

    @property
    def total(self) -> int:
        return sum(self.parts.values())


def count_parameters(recipe: Recipe) -> ParameterCount:
    """Build the decoder from nothing and count."""
    meta = torch.device("meta")
    model = Decoder(recipe, torch_ops("nothing runs"), torch.bfloat16, meta, max_len=1)
    parts = dict.fromkeys(("embedding", "attention", "mlp", "norms", "head"), 0)
    for name, parameter in model.named_parameters():
        parts[_part(name)] += parameter.numel()
    idle = 0
    for layer in recipe.layers:
        if isinstance(layer.mlp, MoeRecipe):
            unused = layer.mlp.num_experts - layer.mlp.top_k
            idle += unused * 3 * layer.mlp.size * recipe.hidden_size
    return ParameterCount(parts, active=sum(parts.values()) - idle)


def _part(name: str) -> str:
    if "norm." in name:
        return "norms"
    if ".attention." in name:
        return "attention"
    if ".mlp." in name:
        return "mlp"
    return "head" if name.startswith("head.") else "embedding"
