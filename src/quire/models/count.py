"""Every parameter of a recipe's decoder: names, shapes and counts, from the recipe alone.

Used by the memory plan and `show`; a test holds it equal to what the decoder makes. No torch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from quire.models.recipe import (
    AttentionRecipe,
    MlpRecipe,
    MoeRecipe,
    NormRecipe,
    Recipe,
    SublayerRecipe,
)

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ParameterCount:
    """Parameters by part. `active` is what one token passes through: of the experts, `top_k`."""

    embedding: int  # positions and projections included
    attention: int
    mlp: int  # dense MLPs, routers and experts
    norms: int
    head: int  # 0 if tied to the embedding
    active: int

    @property
    def total(self) -> int:
        """All of them; a tied head counts once."""
        return self.embedding + self.attention + self.mlp + self.norms + self.head


def num_parameters(recipe: Recipe) -> int:
    """How many numbers the checkpoint holds, a tied head counted once."""
    return sum(prod(shape) for shape in parameter_shapes(recipe).values())


def count_parameters(recipe: Recipe) -> ParameterCount:
    """The counts by part."""
    parts = dict.fromkeys(("embedding", "attention", "mlp", "norms", "head"), 0)
    for name, shape in parameter_shapes(recipe).items():
        parts[_part(name)] += prod(shape)
    idle = 0
    for layer in recipe.layers:
        if isinstance(layer.mlp, MoeRecipe):
            unused = layer.mlp.num_experts - layer.mlp.top_k
            idle += unused * 3 * layer.mlp.size * recipe.hidden_size
    return ParameterCount(**parts, active=sum(parts.values()) - idle)


def parameter_shapes(recipe: Recipe) -> dict[str, Shape]:
    """The decoder's parameters in its order, a tied head left out."""
    return dict(_parameters(recipe))


def _parameters(recipe: Recipe) -> Iterator[tuple[str, Shape]]:
    hidden, embedding, vocab = recipe.hidden_size, recipe.embedding, recipe.vocab_size
    yield "embedding.weight", (vocab, embedding.dim)
    if embedding.dim != hidden:
        yield "project_in.weight", (hidden, embedding.dim)
    if embedding.num_positions is not None:
        rows = embedding.num_positions + embedding.position_offset
        yield "positions.weight", (rows, hidden)
    yield from _norm("embedding_norm", embedding.norm, hidden)
    for i, layer in enumerate(recipe.layers):
        yield from _attention(f"layers.{i}.attention", layer.attention, hidden)
        yield from _mlp(f"layers.{i}.mlp", layer.mlp, hidden)
        yield from _place(f"layers.{i}.attention", layer.attention_place, hidden)
        if not layer.shared_norm:
            yield from _place(f"layers.{i}.mlp", layer.mlp_place, hidden)
    yield from _norm("final_norm", recipe.final_norm, hidden)
    if embedding.dim != hidden:
        yield "project_out.weight", (embedding.dim, hidden)
    if not recipe.head.tied:
        yield "head.weight", (vocab, embedding.dim)
    if recipe.head.bias:
        yield "head.bias", (vocab,)


def _linear(name: str, inputs: int, outputs: int, bias: bool) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.weight", (outputs, inputs)
    if bias:
        yield f"{name}.bias", (outputs,)


def _norm(name: str, norm: NormRecipe | None, size: int) -> Iterator[tuple[str, Shape]]:
    if norm is not None and norm.affine:
        yield f"{name}.weight", (size,)
        if norm.bias:
            yield f"{name}.bias", (size,)


def _place(name: str, place: SublayerRecipe, hidden: int) -> Iterator[tuple[str, Shape]]:
    yield from _norm(f"{name}_norm", place.before, hidden)
    yield from _norm(f"{name}_after_norm", place.after, hidden)
    yield from _norm(f"{name}_residual_norm", place.after_residual, hidden)


def _attention(name: str, a: AttentionRecipe, hidden: int) -> Iterator[tuple[str, Shape]]:
    q, kv = a.num_heads * a.head_dim, a.num_kv_heads * a.head_dim
    yield from _linear(f"{name}.qkv", hidden, q + 2 * kv, a.qkv_bias)
    yield from _linear(f"{name}.out", q, hidden, a.out_bias)
    whole = a.qk_norm_scope == "all"
    yield from _norm(f"{name}.q_norm", a.qk_norm, q if whole else a.head_dim)
    yield from _norm(f"{name}.k_norm", a.qk_norm, kv if whole else a.head_dim)


def _mlp(name: str, mlp: MlpRecipe | MoeRecipe, hidden: int) -> Iterator[tuple[str, Shape]]:
    if isinstance(mlp, MoeRecipe):
        yield f"{name}.router.weight", (mlp.num_experts, hidden)
        yield f"{name}.gate_up", (mlp.num_experts, 2 * mlp.size, hidden)
        yield f"{name}.down", (mlp.num_experts, hidden, mlp.size)
        return
    if mlp.gated:
        yield from _linear(f"{name}.gate_up", hidden, 2 * mlp.size, mlp.bias)
    else:
        yield from _linear(f"{name}.up", hidden, mlp.size, mlp.bias)
    yield from _linear(f"{name}.down", mlp.size, hidden, mlp.bias)


def _part(name: str) -> str:
    if "norm." in name:
        return "norms"
    if ".attention." in name:
        return "attention"
    if ".mlp." in name:
        return "mlp"
    return "head" if name.startswith("head.") else "embedding"
