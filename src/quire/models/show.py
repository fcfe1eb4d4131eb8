"""A recipe as text: what `quire show-model` prints, so that data can be read as a model.

The layout is drawn here; whatever else a recipe says is printed by its fields' own names, where
they are not at their defaults, so a new field shows itself. Parameters are counted on torch's meta
device, without memory.
"""

from dataclasses import MISSING, dataclass, fields, is_dataclass
from itertools import groupby
from typing import Any

import torch

from quire.kernels.select import torch_ops
from quire.models.decoder import Decoder
from quire.models.recipe import LayerRecipe, MoeRecipe, Recipe, SublayerRecipe


def show(recipe: Recipe) -> str:
    """The resolved decoder, top to bottom; runs of like layers are written once."""
    count = count_parameters(recipe)
    active = f", {_count(count.active)} active per token" if count.active != count.total else ""
    where: dict[LayerRecipe, list[int]] = {}
    for index, layer in enumerate(recipe.layers):
        where.setdefault(layer, []).append(index)
    sizes = (
        f"hidden size {recipe.hidden_size}, {len(recipe.layers)} layers, "
        f"vocabulary {recipe.vocab_size}, up to {recipe.max_position} tokens"
    )
    lines = [
        f"{recipe.architecture}: {_count(count.total)} parameters{active}, {recipe.dtype}",
        sizes,
        "",
        f"embedding: {_facts(recipe.embedding)}",
    ]
    for layer, indices in where.items():
        lines += [f"layers {_span(indices)}", *(f"  {line}" for line in _layer(layer))]
    lines += [
        f"final norm: {_facts(recipe.final_norm) if recipe.final_norm else 'none'}",
        f"head: {_facts(recipe.head)}",
        "",
        "parameters",
    ]
    for part, value in count.parts.items():
        lines.append(f"  {part:<10} {value:>16,}  {100 * value / count.total:5.1f}%")
    lines += [f"  {'total':<10} {count.total:>16,}", "", "KV cache"]
    for group in recipe.kv_groups():
        kind = "full attention" if group.window is None else f"window of {group.window} tokens"
        layers = "1 layer" if len(group.layers) == 1 else f"{len(group.layers)} layers"
        lines.append(f"  {kind}: {layers}, {group.elements_per_token:,} values a token")
    return "\n".join(lines)


def _span(indices: list[int]) -> str:
    """[0, 1, 2, 4] -> "0-2, 4"."""
    parts = []
    for _, run in groupby(enumerate(indices), key=lambda pair: pair[1] - pair[0]):
        first, *others = [index for _, index in run]
        parts.append(f"{first}-{others[-1]}" if others else str(first))
    return ", ".join(parts)


def _layer(layer: LayerRecipe) -> list[str]:
    if layer.parallel:
        formulas = ["x = x + attention(norm(x)) + mlp(norm(x))"]
    else:
        formulas = [
            _formula("attention", layer.attention_place),
            _formula("mlp", layer.mlp_place),
        ]
    mlp = "experts" if isinstance(layer.mlp, MoeRecipe) else "mlp"
    return [
        *formulas,
        *(f"{name}: {_facts(norm)}" for name, norm in layer.norms().items()),
        f"attention: {_facts(layer.attention)}",
        f"{mlp}: {_facts(layer.mlp)}",
    ]


def _formula(name: str, place: SublayerRecipe) -> str:
    inner = f"{name}(norm(x))" if place.before else f"{name}(x)"
    if place.after:
        inner = f"norm({inner})"
    if place.multiplier != 1.0:
        inner = f"{place.multiplier:g} * {inner}"
    return f"x = norm(x + {inner})" if place.after_residual else f"x = x + {inner}"


def _facts(part: Any) -> str:
    """`num_heads 8, scale 0.125, qkv_bias, rope (kind default, theta 10000)`."""
    said = []
    for field in fields(part):
        value = getattr(part, field.name)
        if field.default is MISSING or value != field.default:
            said.append(field.name if value is True else f"{field.name} {_value(value)}")
    return ", ".join(said)


def _value(value: Any) -> str:
    if is_dataclass(value):
        return f"({_facts(value)})"
    if isinstance(value, tuple):
        return f"of {len(value)} numbers"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _count(value: int) -> str:
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if value >= limit:
            return f"{value / limit:.2f}{unit}"
    return str(value)


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
