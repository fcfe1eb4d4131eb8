"""Llama, and the families that differ from it in a field or two."""

from dataclasses import replace

from quire.models.families.llama_style import (
    FULL,
    SLIDING,
    assemble,
    layer_norm,
    layer_windows,
    pre_norm_layer,
    read_experts,
    read_mlp,
    rms_norm,
)
from quire.models.families.names import Names
from quire.models.families.reader import Reader
from quire.models.families.rope import read_rope
from quire.models.families.sizes import Sizes
from quire.models.recipe import EmbeddingRecipe, HeadRecipe, LayerRecipe, Recipe, SublayerRecipe


def llama(read: Reader) -> Recipe:
    """Llama 2, 3 and 3.x."""
    sizes, norm = Sizes(read), rms_norm(read, 1e-6)
    attention = sizes.attention(read_rope(read, sizes), bias=read.boolean("attention_bias", False))
    mlp = read_mlp(read, bias=read.boolean("mlp_bias", False))
    layer = pre_norm_layer(attention, mlp, norm)
    return assemble(read, sizes, layer, norm)


def mistral(read: Reader) -> Recipe:
    """Mistral: Llama with a sliding window over every layer."""
    sizes = Sizes(read, num_kv_heads=8, max_position=4096 * 32)
    norm = rms_norm(read, 1e-6)
    window = read.optional_integer("sliding_window")
    if "sliding_window" not in read.config:
        window = 4096  # the first release's; null says full attention
    attention = sizes.attention(read_rope(read, sizes), window=window)
    layer = pre_norm_layer(attention, read_mlp(read), norm)
    return assemble(read, sizes, layer, norm)


MIXTRAL_NAMES = Names(experts=("w1", "w3", "w2"), moe=("block_sparse_moe", "mlp"))


def mixtral(read: Reader) -> Recipe:
    """Mixtral: Mistral with routed experts in every layer."""
    sizes = Sizes(read, num_kv_heads=8, max_position=4096 * 32)
    norm = rms_norm(read, 1e-5)
    attention = sizes.attention(
        read_rope(read, sizes, theta=1e6), window=read.optional_integer("sliding_window")
    )
    experts = read_experts(
        read, count="num_local_experts", num_experts=8, top_k=2, size="intermediate_size"
    )
    layer = pre_norm_layer(attention, experts, norm)
    return assemble(read, sizes, layer, norm, names=MIXTRAL_NAMES)


PHI3_NAMES = Names(qkv=("self_attn.qkv_proj",), up=("mlp.gate_up_proj",))


def phi3(read: Reader) -> Recipe:
    """Phi-3 and Phi-4: Llama with fused projections, partial rotation and longrope."""
    sizes, norm = Sizes(read, max_position=4096), rms_norm(read, 1e-5)
    rope = read_rope(
        read,
        sizes,
        rotary_fraction=1.0,
        original_max_position=4096,
        renamed={"su": "longrope", "yarn": "longrope"},  # the first releases' words for it
    )
    attention = sizes.attention(rope, window=read.optional_integer("sliding_window"))
    layer = pre_norm_layer(attention, read_mlp(read), norm)
    return assemble(read, sizes, layer, norm, names=PHI3_NAMES)


def granite(read: Reader) -> Recipe:
    """Granite: Llama with multipliers on embedding, attention, residual and logits."""
    sizes, norm = Sizes(read), rms_norm(read, 1e-6)
    attention = replace(
        sizes.attention(read_rope(read, sizes), bias=read.boolean("attention_bias", False)),
        scale=read.number("attention_multiplier", 1.0),
    )
    mlp = read_mlp(read, bias=read.boolean("mlp_bias", False))
    place = SublayerRecipe(norm, multiplier=read.number("residual_multiplier", 1.0))
    return assemble(
        read,
        sizes,
        LayerRecipe(attention, place, mlp, place),
        norm,
        embedding=EmbeddingRecipe(sizes.hidden, read.number("embedding_multiplier", 1.0)),
        head=HeadRecipe(tied=False, multiplier=1.0 / read.positive("logits_scaling", 1.0)),
    )


OLMO2_NAMES = Names(
    norms={
        "attention_after_norm": "post_attention_layernorm",
        "mlp_after_norm": "post_feedforward_layernorm",
    }
)


def olmo2(read: Reader) -> Recipe:
    """OLMo 2: norms after the sublayers, and over the whole of q and k."""
    sizes, norm = Sizes(read), rms_norm(read, 1e-5)
    attention = replace(
        sizes.attention(read_rope(read, sizes), bias=read.boolean("attention_bias", False)),
        qk_norm=norm,
        qk_norm_scope="all",
    )
    place = SublayerRecipe(after=norm)
    layer = LayerRecipe(attention, place, read_mlp(read), place)
    return assemble(read, sizes, layer, norm, names=OLMO2_NAMES)


def smollm3(read: Reader) -> Recipe:
    """SmolLM3: Llama with layers that have no rope."""
    sizes = Sizes(read, num_kv_heads=4, max_position=32768)
    norm = rms_norm(read, 1e-6)
    rope = read_rope(read, sizes, theta=2e6)
    attention = sizes.attention(rope, bias=read.boolean("attention_bias", False))
    mlp = read_mlp(read, bias=read.boolean("mlp_bias", False))
    has_rope = _has_rope(read, sizes.num_layers)
    layers = [
        pre_norm_layer(replace(attention, window=window, rope=rope if rotates else None), mlp, norm)
        for rotates, window in zip(has_rope, _windows(read, has_rope), strict=True)
    ]
    return assemble(read, sizes, layers, norm, head=HeadRecipe(tied=True))


def _has_rope(read: Reader, num_layers: int) -> list[bool]:
    """`no_rope_layers` holds a 1 for a layer with rope; by default every fourth has none."""
    given = read.integers("no_rope_layers", num_layers)
    if given is not None:
        return [bool(value) for value in given]
    interval = read.integer("no_rope_layer_interval", 4)
    return [(i + 1) % interval != 0 for i in range(num_layers)]


def _windows(read: Reader, has_rope: list[bool]) -> tuple[int | None, ...]:
    """With `use_sliding_window`, layers without rope slide unless `layer_types` says otherwise."""
    window = read.optional_integer("sliding_window")
    if window is None or not read.boolean("use_sliding_window", False):
        return (None,) * len(has_rope)
    default = [FULL if rotates else SLIDING for rotates in has_rope]
    return layer_windows(read, len(has_rope), window, default)


STARCODER2_NAMES = Names(up=("mlp.c_fc",), down="mlp.c_proj")


def starcoder2(read: Reader) -> Recipe:
    """StarCoder2: Llama's attention with LayerNorm, biases and a plain MLP."""
    read = read.using(layer_norm_eps="norm_epsilon")
    sizes = Sizes(read, num_kv_heads=2, max_position=4096)
    norm, bias = layer_norm(read), read.boolean("use_bias", True)
    attention = sizes.attention(
        read_rope(read, sizes), window=read.optional_integer("sliding_window"), bias=bias
    )
    mlp = read_mlp(read, activation="gelu_pytorch_tanh", gated=False, bias=bias)
    layer = pre_norm_layer(attention, mlp, norm)
    head = HeadRecipe(tied=True)
    return assemble(read, sizes, layer, norm, names=STARCODER2_NAMES, head=head)
