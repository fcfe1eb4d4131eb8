"""Building a `WeightMap`: checkpoint names on one side, the decoder's parameters on the other.

The decoder's parameter names, with i a layer's index:
  embedding.weight, positions.weight, embedding_norm.*, project_in.weight, project_out.weight,
  layers.i.{attention,mlp}_{norm,after_norm,residual_norm}.*, layers.i.attention.{qkv,out}.*,
  layers.i.attention.{q_norm,k_norm}.weight, layers.i.mlp.{gate_up,up,down}.*,
  layers.i.mlp.router.weight and (experts, without ".weight") layers.i.mlp.{gate_up,down},
  final_norm.*, head.weight, head.bias.
"""

from typing import Literal

from quire.models.recipe import (
    AttentionRecipe,
    MlpRecipe,
    MoeRecipe,
    NormRecipe,
    Placement,
    SublayerRecipe,
    WeightMap,
)

Transform = Literal["none", "transpose", "split_heads_qkv", "transpose_experts"]

# Buffers of old checkpoints, and the parts of multi-modal ones that are not the decoder.
IGNORED = (
    r"rotary_emb\.(inv_freq|cos_cached|sin_cached)$",
    r"^(model\.)?(vision_tower|vision_model|visual|multi_modal_projector)\.",
)


class WeightTable:
    """A `WeightMap` under construction."""

    def __init__(self) -> None:
        self.places: dict[str, tuple[Placement, ...]] = {}
        self.optional: set[str] = set()

    def put(self, source: str, *places: Placement, optional: bool = False) -> None:
        """Checkpoint tensor `source` goes to `places`."""
        self.places[source] = places
        if optional:
            self.optional.add(source)

    def linear(
        self,
        source: str,
        param: str,
        bias: bool,
        rows: tuple[int, int] | None = None,
        transform: Transform = "none",
        num_heads: int = 0,
    ) -> None:
        """`source`.weight (and .bias) to `param`, or to `rows` of its output dimension."""
        self.put(f"{source}.weight", Placement(f"{param}.weight", rows, None, transform, num_heads))
        if bias:
            # A bias has one dimension: only the reordering of heads applies to it.
            kept: Transform = "split_heads_qkv" if transform == "split_heads_qkv" else "none"
            self.put(f"{source}.bias", Placement(f"{param}.bias", rows, None, kept, num_heads))

    def norm(self, source: str, param: str, norm: NormRecipe | None) -> None:
        """`source`.weight (and .bias) to `param`, if there is such a norm."""
        if norm is None or not norm.affine:
            return
        self.put(f"{source}.weight", Placement(f"{param}.weight"))
        if norm.bias:
            self.put(f"{source}.bias", Placement(f"{param}.bias"))

    def place_norms(self, source: str, param: str, place: SublayerRecipe, **names: str) -> None:
        """The norms around a sublayer; `names` maps before/after/after_residual to HF's name."""
        for position, suffix in (
            ("before", "norm"),
            ("after", "after_norm"),
            ("after_residual", "residual_norm"),
        ):
            norm: NormRecipe | None = getattr(place, position)
            if norm is not None:
                self.norm(f"{source}.{names[position]}", f"{param}_{suffix}", norm)

    def separate_qkv(self, source: str, param: str, a: AttentionRecipe, out: str) -> None:
        """q_proj, k_proj, v_proj and an output projection, q over k over v in `param`.qkv."""
        q, kv = a.num_heads * a.head_dim, a.num_kv_heads * a.head_dim
        for name, low, size in (("q", 0, q), ("k", q, kv), ("v", q + kv, kv)):
            self.linear(f"{source}.{name}_proj", f"{param}.qkv", a.qkv_bias, rows=(low, low + size))
        self.linear(f"{source}.{out}", f"{param}.out", a.out_bias)
        self.norm(f"{source}.q_norm", f"{param}.q_norm", a.qk_norm)
        self.norm(f"{source}.k_norm", f"{param}.k_norm", a.qk_norm)

    def separate_gate_up(self, source: str, param: str, mlp: MlpRecipe) -> None:
        """gate_proj, up_proj, down_proj; gate over up in `param`.gate_up."""
        f = mlp.size
        self.linear(f"{source}.gate_proj", f"{param}.gate_up", mlp.bias, rows=(0, f))
        self.linear(f"{source}.up_proj", f"{param}.gate_up", mlp.bias, rows=(f, 2 * f))
        self.linear(f"{source}.down_proj", f"{param}.down", mlp.bias)

    def experts(self, source: str, param: str, moe: MoeRecipe, names: tuple[str, str, str]) -> None:
        """Routed experts, stored a tensor per expert (`names`: gate, up, down) or stacked."""
        f = moe.size
        gate, up, down = names
        self.put(f"{source}.gate.weight", Placement(f"{param}.router.weight"), optional=True)
        for x in range(moe.num_experts):
            expert = f"{source}.experts.{x}"
            for name, place in (
                (gate, Placement(f"{param}.gate_up", (0, f), x)),
                (up, Placement(f"{param}.gate_up", (f, 2 * f), x)),
                (down, Placement(f"{param}.down", None, x)),
            ):
                self.put(f"{expert}.{name}.weight", place, optional=True)
        for name, target in (("gate_up_proj", "gate_up"), ("down_proj", "down")):
            self.put(f"{source}.experts.{name}", Placement(f"{param}.{target}"), optional=True)

    def head(self, source: str, tied: bool, bias: bool = False) -> None:
        """The output projection; a tied one may be stored too, and is then the embedding."""
        if tied:
            self.put(f"{source}.weight", optional=True)
        else:
            self.linear(source, "head", bias)

    def build(self, *prefixes: str, ignored: tuple[str, ...] = ()) -> WeightMap:
        """The finished map. The decoder may also stand inside a multi-modal checkpoint, whose
        other parts are then left alone."""
        wrappers = ("language_model.", "model.language_model.")
        return WeightMap(
            self.places,
            (*IGNORED, *ignored),
            frozenset(self.optional),
            (*prefixes, *wrappers),
        )
