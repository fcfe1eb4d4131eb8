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
    count, hidden = count_parameters(recipe), recipe.hidden_size
    active = f", {_count(count.active)} active per token" if count.active != count.total else ""
    where: dict[LayerRecipe, list[int]] = {}
    for index, layer in enumerate(recipe.layers):
        where.setdefault(layer, []).append(index)
    sizes = (
        f"hidden size {hidden}, {len(recipe.layers)} layers, "
        f"vocabulary {recipe.vocab_size}, up to {recipe.max_position} tokens"
    )
    lines = [
        f"{recipe.architecture}: {_count(count.total)} parameters{active}, {recipe.dtype}",
        sizes,
        "",
        f"embedding  {_embedding(recipe.embedding, hidden)}",
    ]
    for layer, indices in where.items():
        lines += [f"layers {_span(indices)}", *(f"  {line}" for line in _layer(layer))]
    lines += [
        f"final norm {_norm(recipe.final_norm)}",
        f"head       {_head(recipe.head, recipe.embedding.dim, hidden)}",
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


def _said(*parts: tuple[object, str]) -> str:
    """The texts whose condition holds, with commas between."""
    return ", ".join(text for condition, text in parts if condition)


def _layer(layer: LayerRecipe) -> list[str]:
    attention, mlp = _attention(layer.attention), f"  {_mlp(layer.mlp)}"
    if not layer.parallel:
        places = _place("attention", layer.attention_place), _place("mlp", layer.mlp_place)
        return [places[0], *attention, places[1], mlp]
    second = "the same norm" if layer.shared_norm else _norm(layer.mlp_place.before)
    norms = f"norms: {_norm(layer.attention_place.before)}; {second}"
    return ["x = x + attention(norm(x)) + mlp(norm(x))", norms, *attention, mlp]


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
    return _said(
        (True, f"{'RMSNorm' if norm.kind == 'rms' else 'LayerNorm'} eps {norm.eps:g}"),
        (norm.weight_offset, f"weight + {norm.weight_offset:g}"),
        (not norm.affine, "no parameters"),
        (norm.bias, "bias"),
    )


def _attention(a: AttentionRecipe) -> list[str]:
    kind = "multi-head" if a.num_heads == a.num_kv_heads else f"{a.num_kv_heads} KV heads"
    biases = [name for name, has in (("qkv", a.qkv_bias), ("out", a.out_bias)) if has]
    scope = "each head's" if a.qk_norm_scope == "head" else "the whole"
    text = _said(
        (True, f"{a.num_heads} heads of {a.head_dim}, {kind}, scale {a.scale:.4g}"),
        (True, "full" if a.window is None else f"window {a.window}"),
        (a.softcap is not None, f"scores capped at {a.softcap or 0:g}"),
        (a.qk_norm, f"norm over {scope} q and k"),
        (biases, f"bias on {' and '.join(biases)}"),
    )
    return [f"  attention: {text}", f"  rope: {_rope(a.rope)}"]


def _rope(rope: RopeRecipe | None) -> str:
    if rope is None:
        return "none"
    trained = rope.kind in ("yarn", "longrope", "llama3")
    return _said(
        (True, f"{rope.kind}, theta {rope.theta:g}, {rope.rotary_dim} dimensions"),
        (rope.kind != "default", f"factor {rope.factor:g}"),
        (trained, f"trained on {rope.original_max_position} positions"),
        (rope.interleaved, "neighbouring pairs"),
    )


def _mlp(mlp: MlpRecipe | MoeRecipe) -> str:
    if isinstance(mlp, MoeRecipe):
        chosen = f"{mlp.top_k} of {mlp.num_experts}, {mlp.size} wide, gated {mlp.activation}"
        return f"experts: {_said((True, chosen), (mlp.renormalize, 'shares renormalised'))}"
    kind = f"{'gated ' if mlp.gated else ''}{mlp.activation}"
    return f"mlp: {_said((True, f'{mlp.size} wide, {kind}'), (mlp.bias, 'biases'))}"


def _embedding(embedding: EmbeddingRecipe, hidden: int) -> str:
    return _said(
        (True, f"{embedding.dim} wide"),
        (embedding.multiplier != 1.0, f"times {embedding.multiplier:.6g}"),
        (embedding.dim != hidden, f"projected to {hidden}"),
        (embedding.num_positions is not None, f"{embedding.num_positions} learned positions"),
        (embedding.norm, _norm(embedding.norm)),
    )


def _head(head: HeadRecipe, dim: int, hidden: int) -> str:
    return _said(
        (True, "tied to the embedding" if head.tied else "its own matrix"),
        (dim != hidden, f"projected to {dim} first"),
        (head.bias, "bias"),
        (head.multiplier != 1.0, f"times {head.multiplier:.6g}"),
        (head.softcap is not None, f"capped at {head.softcap or 0:g}"),
    )


def _count(value: int) -> str:
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if value >= limit:
            return f"{value / limit:.2f}{unit}"
    return str(value)
