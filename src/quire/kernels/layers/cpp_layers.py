"""Decoder layers in C++ (`csrc/layers.cpp`), all in one call, for bf16.

They are the kernels that the ops of one layer bind, in the same order: the bits are the same.
"""

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from quire.kernels.activation.cpp_activation import ACTIVATIONS
from quire.kernels.attention import cpp_attention
from quire.kernels.batch import AttentionBatch, LayerCache, StepInputs
from quire.kernels.matmul.cpp_panels import LinearStruct, Panels
from quire.kernels.table import LayerParts, Layers, LinearParts, NormParts, RunLayers
from quire.platform.native import FLOAT, POINTER, SIZE, Library


class NormStruct(ctypes.Structure):
    _fields_ = [("weight", POINTER), ("eps", FLOAT), ("offset", FLOAT)]


_NORMS = (
    "attention_norm",
    "attention_after_norm",
    "mlp_norm",
    "mlp_after_norm",
    "q_norm",
    "k_norm",
)
_SIZES = ("heads", "kv_heads", "head_dim", "rotary_dim", "interleaved", "window", "activation")


class LayerStruct(ctypes.Structure):
    """QuireLayer of csrc/quire.h, as the others are what it has by their names."""

    _fields_ = [
        *((name, NormStruct) for name in _NORMS),
        *((name, LinearStruct) for name in ("qkv", "out", "gate_up", "down")),
        *((name, POINTER) for name in ("rope", "k_pages", "v_pages")),
        *((name, SIZE) for name in (*_SIZES, "page_stride", "head_stride", "batch")),
        *((name, FLOAT) for name in ("scale", "softcap")),
    ]


class BatchStruct(ctypes.Structure):
    _fields_ = [
        *((n, POINTER) for n in ("query_lens", "seq_lens", "rows", "page_table", "slots")),
        *((name, SIZE) for name in ("sequences", "page_size", "table_width")),
    ]


def layers_of(library: Library) -> Layers:
    kernel = library.kernel("layers", POINTER, SIZE, *[POINTER] * 7, SIZE, SIZE)

    def layers(parts: Sequence[LayerParts], caches: Sequence[LayerCache]) -> RunLayers | None:
        """None unless the kernels of each op take every one of the layers."""
        described = describe(parts, caches)
        if described is None:
            return None
        inner, wide = widths(parts)

        def run(x: Tensor, inputs: StepInputs) -> tuple[Tensor, Tensor]:
            batches = (BatchStruct * len(inputs.groups))(*map(_batch, inputs.groups))
            tokens, hidden = x.shape
            delta, residual = torch.empty_like(x), torch.empty_like(x)
            work = torch.empty(tokens * (inner + wide), dtype=x.dtype)
            kernel(
                described, len(parts), batches, inputs.positions.data_ptr(), x.data_ptr(),
                delta.data_ptr(), residual.data_ptr(), work.data_ptr(),
                work.data_ptr() + tokens * inner * x.itemsize, tokens, hidden,
            )  # fmt: skip
            return delta, residual

        return run

    return layers


def describe(parts: Sequence[LayerParts], caches: Sequence[LayerCache]) -> Any | None:
    """An array of `LayerStruct`; None if the kernels are not for such as these."""
    if not parts or not all(map(_takes, parts, caches)):
        return None
    described = (LayerStruct * len(parts))()
    for to, layer, cache in zip(described, parts, caches, strict=True):
        _describe(to, layer, cache)
    return described


def widths(parts: Sequence[LayerParts]) -> tuple[int, int]:
    """Values a token in the kernel's working memories `inner` and `wide`."""
    inner = max(max(p.qkv.weight.shape[1], p.out.weight.shape[1]) for p in parts)
    wide = max(max(p.qkv.weight.shape[0], p.down.weight.shape[1]) for p in parts)
    return inner, wide


def _takes(layer: LayerParts, cache: LayerCache) -> bool:
    norms = (
        layer.attention_norm, layer.attention_after_norm, layer.mlp_norm, layer.mlp_after_norm
    )  # fmt: skip
    vectors = [norm.weight for norm in norms if norm is not None]
    if layer.head_norm is not None:
        vectors += [layer.head_norm.q_weight, layer.head_norm.k_weight]
    linears = (layer.qkv, layer.out, layer.gate_up, layer.down)
    return (
        all(pages.dtype == torch.bfloat16 for pages in cache)
        and cpp_attention.takes(torch.bfloat16, layer.head_dim)
        and all(vector.dtype == torch.bfloat16 for vector in vectors)
        and all(isinstance(linear.weight, Panels) for linear in linears)
    )


def _describe(to: Any, layer: LayerParts, cache: LayerCache) -> None:
    k_pages, v_pages = cache
    to.attention_norm = norm_struct(layer.attention_norm)
    to.attention_after_norm = norm_struct(layer.attention_after_norm)
    to.mlp_norm, to.mlp_after_norm = norm_struct(layer.mlp_norm), norm_struct(layer.mlp_after_norm)
    if (heads := layer.head_norm) is not None:
        to.q_norm = NormStruct(heads.q_weight.data_ptr(), heads.eps, heads.weight_offset)
        to.k_norm = NormStruct(heads.k_weight.data_ptr(), heads.eps, heads.weight_offset)
    to.qkv, to.out = linear_struct(layer.qkv), linear_struct(layer.out)
    to.gate_up, to.down = linear_struct(layer.gate_up), linear_struct(layer.down)
    to.gate_up.outputs //= 2
    if layer.rope is not None:
        to.rope = layer.rope.table.data_ptr()
        to.rotary_dim, to.interleaved = layer.rope.table.shape[1], layer.rope.interleaved
    to.k_pages, to.v_pages = k_pages.data_ptr(), v_pages.data_ptr()
    to.page_stride, to.head_stride = k_pages.stride()[:2]
    to.heads, to.kv_heads, to.head_dim = layer.num_heads, layer.num_kv_heads, layer.head_dim
    to.window, to.activation = layer.window or 0, ACTIVATIONS[layer.activation]
    to.scale, to.softcap, to.batch = layer.scale, layer.softcap or 0.0, layer.group


def norm_struct(parts: NormParts | None) -> NormStruct:
    if parts is None:
        return NormStruct()
    return NormStruct(parts.weight.data_ptr(), parts.eps, parts.weight_offset)


def linear_struct(parts: LinearParts) -> LinearStruct:
    assert isinstance(parts.weight, Panels)
    return parts.weight.described(parts.bias)


def _batch(batch: AttentionBatch) -> BatchStruct:
    return BatchStruct(
        batch.host_query_lens.__array_interface__["data"][0],  # .ctypes.data takes 30 us, cold
        batch.seq_lens.data_ptr(),
        batch.rows.data_ptr(),
        batch.page_table.data_ptr(),
        batch.slots.data_ptr(),
        len(batch.host_seq_lens),
        batch.page_size,
        batch.page_table.stride(0),
    )
