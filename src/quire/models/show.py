"""A recipe as text: what `quire show-model` prints, so that data can be read as a model."""

from itertools import groupby

from quire.models.count import count_parameters
from quire.models.recipe import (
    AttentionRecipe,
    EmbeddingRecipe,
    HeadRecipe,
    LayerRecipe,
    MlpRecipe,
    MoeRecipe,
    NormRecipe,
    Recipe,
    RopeRecipe,
    SublayerRecipe,
)


def show(recipe: Recipe) -> str:
    """The resolved decoder, top to bottom; runs of like layers are written once."""
    count = count_parameters(recipe)
    active = f", {_count(count.active)} active per token" if count.active != count.total else ""
    sizes = (
        f"hidden size {recipe.hidden_size}, {len(recipe.layers)} layers, "
        f"vocabulary {recipe.vocab_size}, up to {recipe.max_position} tokens"
    )
    lines = [
        f"{recipe.architecture}: {_count(count.total)} parameters{active}, {recipe.dtype}",
        sizes,
        "",
        f"embedding  {_embedding(recipe.embedding, recipe.hidden_size)}",
    ]
    for span, layer in _runs(recipe.layers):
        lines += [f"layers {span}", *(f"  {line}" for line in _layer(layer))]
    lines += [
        f"final norm {_norm(recipe.final_norm)}",
        f"head       {_head(recipe.head, recipe.embedding.dim, recipe.hidden_size)}",
        "",
        "parameters",
    ]
    for part in ("embedding", "attention", "mlp", "norms", "head"):
        value = getattr(count, part)
        lines.append(f"  {part:<10} {value:>16,}  {100 * value / count.total:5.1f}%")
    lines += [f"  {'total':<10} {count.total:>16,}", "", "KV cache"]
    for group in recipe.kv_groups():
        kind = "full attention" if group.window is None else f"window of {group.window} tokens"
        layers = "1 layer" if len(group.layers) == 1 else f"{len(group.layers)} layers"
        lines.append(f"  {kind}: {layers}, {group.elements_per_token:,} values a token")
    return "\n".join(lines)


def _runs(layers: tuple[LayerRecipe, ...]) -> list[tuple[str, LayerRecipe]]:
    """Layers that repeat, as ("0, 2, 4", recipe) or ("0-31", recipe), by first appearance."""
    where: dict[LayerRecipe, list[int]] = {}
    for index, layer in enumerate(layers):
        where.setdefault(layer, []).append(index)
    return [(_span(indices), layer) for layer, indices in where.items()]


def _span(indices: list[int]) -> str:
    parts = []
    for _, run in groupby(enumerate(indices), key=lambda pair: pair[1] - pair[0]):
        members = [index for _, index in run]
        first, last = members[0], members[-1]
        parts.append(str(first) if first == last else f"{first}-{last}")
    return ", ".join(parts)


def _layer(layer: LayerRecipe) -> list[str]:
    attention, mlp = _attention(layer.attention), _mlp(layer.mlp)
    if layer.parallel:
        second = "the same norm" if layer.shared_norm else _norm(layer.mlp_place.before)
        return [
            "x = x + attention(norm(x)) + mlp(norm(x))",
            f"norms: {_norm(layer.attention_place.before)}; {second}",
            *attention,
            mlp,
        ]
    return [
        _place("attention", layer.attention_place),
        *attention,
        _place("mlp", layer.mlp_place),
        mlp,
    ]


def _place(name: str, place: SublayerRecipe) -> str:
    inner = f"{name}(norm(x))" if place.before else f"{name}(x)"
    if place.after:
        inner = f"norm({inner})"
    if place.multiplier != 1.0:
        inner = f"{place.multiplier:g} * {inner}"
    text = f"x = norm(x + {inner})" if place.after_residual else f"x = x + {inner}"
    norms = {n: None for n in (place.before, place.after, place.after_residual) if n}
    return f"{text}, norm: {'; '.join(_norm(n) for n in norms)}"


def _norm(norm: NormRecipe | None) -> str:
    if norm is None:
        return "none"
    text = "RMSNorm" if norm.kind == "rms" else "LayerNorm"
    text += f" eps {norm.eps:g}"
    if norm.weight_offset:
        text += f", weight + {norm.weight_offset:g}"
    if not norm.affine:
        text += ", no parameters"
    return text + (", bias" if norm.bias else "")


def _attention(a: AttentionRecipe) -> list[str]:
    kind = "multi-head" if a.num_heads == a.num_kv_heads else f"{a.num_kv_heads} KV heads"
    parts = [f"{a.num_heads} heads of {a.head_dim}, {kind}, scale {a.scale:.4g}"]
    parts.append("full" if a.window is None else f"window {a.window}")
    if a.softcap is not None:
        parts.append(f"scores capped at {a.softcap:g}")
    if a.qk_norm is not None:
        scope = "each head's" if a.qk_norm_scope == "head" else "the whole"
        parts.append(f"norm over {scope} q and k")
    biases = [name for name, has in (("qkv", a.qkv_bias), ("out", a.out_bias)) if has]
    if biases:
        parts.append(f"bias on {' and '.join(biases)}")
    return [f"  attention: {', '.join(parts)}", f"  rope: {_rope(a.rope)}"]


def _rope(rope: RopeRecipe | None) -> str:
    if rope is None:
        return "none"
    text = f"{rope.kind}, theta {rope.theta:g}, {rope.rotary_dim} dimensions"
    if rope.kind != "default":
        text += f", factor {rope.factor:g}"
    if rope.kind in ("yarn", "longrope", "llama3"):
        text += f", trained on {rope.original_max_position} positions"
    return text + (", neighbouring pairs" if rope.interleaved else "")


def _mlp(mlp: MlpRecipe | MoeRecipe) -> str:
    if isinstance(mlp, MoeRecipe):
        rule = ", shares renormalised" if mlp.renormalize else ""
        return (
            f"  experts: {mlp.top_k} of {mlp.num_experts}, {mlp.size} wide, "
            f"gated {mlp.activation}{rule}"
        )
    gate = "gated " if mlp.gated else ""
    return f"  mlp: {mlp.size} wide, {gate}{mlp.activation}{', biases' if mlp.bias else ''}"


def _embedding(embedding: EmbeddingRecipe, hidden: int) -> str:
    parts = [f"{embedding.dim} wide"]
    if embedding.multiplier != 1.0:
        parts.append(f"times {embedding.multiplier:.6g}")
    if embedding.dim != hidden:
        parts.append(f"projected to {hidden}")
    if embedding.num_positions is not None:
        parts.append(f"{embedding.num_positions} learned positions")
    if embedding.norm is not None:
        parts.append(_norm(embedding.norm))
    return ", ".join(parts)


def _head(head: HeadRecipe, dim: int, hidden: int) -> str:
    parts = ["tied to the embedding" if head.tied else "its own matrix"]
    if dim != hidden:
        parts.append(f"projected to {dim} first")
    if head.bias:
        parts.append("bias")
    if head.multiplier != 1.0:
        parts.append(f"times {head.multiplier:.6g}")
    if head.softcap is not None:
        parts.append(f"capped at {head.softcap:g}")
    return ", ".join(parts)


def _count(value: int) -> str:
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if value >= limit:
            return f"{value / limit:.2f}{unit}"
    return str(value)
