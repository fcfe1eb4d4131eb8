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
from quire.kernels.matmul import cpp_matmul
from quire.kernels.table import LayerParts, Layers, LinearParts, NormParts, RunLayers
from quire.platform.native import FLOAT, POINTER, SIZE, Library


class _Linear(ctypes.Structure):
    _fields_ = [
        *((name, POINTER) for name in ("data", "scale", "bias")),
        *((name, SIZE) for name in ("format", "outputs", "inputs", "group")),
    ]


class _Norm(ctypes.Structure):
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


class _Layer(ctypes.Structure):
    """As csrc/quire.h has it."""

    _fields_ = [
        *((name, _Norm) for name in _NORMS),
        *((name, _Linear) for name in ("qkv", "out", "gate_up", "down")),
        *((name, POINTER) for name in ("rope", "k_pages", "v_pages")),
        *((name, SIZE) for name in (*_SIZES, "page_stride", "head_stride", "batch")),
        *((name, FLOAT) for name in ("scale", "softcap")),
    ]


class _Batch(ctypes.Structure):
    _fields_ = [
        *((n, POINTER) for n in ("query_lens", "seq_lens", "rows", "page_table", "slots")),
        *((name, SIZE) for name in ("sequences", "page_size", "table_width")),
    ]


def layers_of(library: Library) -> Layers:
    """The op with the library's kernel."""
    kernel = library.kernel("layers", POINTER, SIZE, *[POINTER] * 7, SIZE, SIZE)

    def layers(parts: Sequence[LayerParts], caches: Sequence[LayerCache]) -> RunLayers | None:
        """None unless the kernels of each op take every one of the layers."""
        if not parts or not all(map(_takes, parts, caches)):
            return None
        inner = max(max(p.qkv.weight.shape[1], p.out.weight.shape[1]) for p in parts)
        wide = max(max(p.qkv.weight.shape[0], p.down.weight.shape[1]) for p in parts)
        described = (_Layer * len(parts))()
        for to, layer, cache in zip(described, parts, caches, strict=True):
            _describe(to, layer, cache)

        def run(x: Tensor, inputs: StepInputs) -> tuple[Tensor, Tensor]:
            batches = (_Batch * len(inputs.groups))(*map(_batch, inputs.groups))
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
        and all(cpp_matmul.format_of(linear.weight) is not None for linear in linears)
    )


def _describe(to: Any, layer: LayerParts, cache: LayerCache) -> None:
    k_pages, v_pages = cache
    to.attention_norm = _norm(layer.attention_norm)
    to.attention_after_norm = _norm(layer.attention_after_norm)
    to.mlp_norm, to.mlp_after_norm = _norm(layer.mlp_norm), _norm(layer.mlp_after_norm)
    if (heads := layer.head_norm) is not None:
        to.q_norm = _Norm(heads.q_weight.data_ptr(), heads.eps, heads.weight_offset)
        to.k_norm = _Norm(heads.k_weight.data_ptr(), heads.eps, heads.weight_offset)
    to.qkv, to.out, to.down = _linear(layer.qkv), _linear(layer.out), _linear(layer.down)
    to.gate_up = _linear(layer.gate_up)
    to.gate_up.outputs //= 2
    if layer.rope is not None:
        to.rope = layer.rope.table.data_ptr()
        to.rotary_dim, to.interleaved = layer.rope.table.shape[1], layer.rope.interleaved
    to.k_pages, to.v_pages = k_pages.data_ptr(), v_pages.data_ptr()
    to.page_stride, to.head_stride = k_pages.stride()[:2]
    to.heads, to.kv_heads, to.head_dim = layer.num_heads, layer.num_kv_heads, layer.head_dim
    to.window, to.activation = layer.window or 0, ACTIVATIONS[layer.activation]
    to.scale, to.softcap, to.batch = layer.scale, layer.softcap or 0.0, layer.group


def _norm(parts: NormParts | None) -> _Norm:
    if parts is None:
        return _Norm()
    return _Norm(parts.weight.data_ptr(), parts.eps, parts.weight_offset)


def _linear(parts: LinearParts) -> _Linear:
    known = cpp_matmul.format_of(parts.weight)
    assert known is not None
    number, group = known
    outputs, inputs = parts.weight.shape
    data, *scale = (tensor.data_ptr() for tensor in parts.weight.tensors().values())
    bias = None if parts.bias is None else parts.bias.data_ptr()
    return _Linear(data, scale[0] if scale else None, bias, number, outputs, inputs, group)


def _batch(batch: AttentionBatch) -> _Batch:
    return _Batch(
        batch.host_query_lens.__array_interface__["data"][0],  # .ctypes.data takes 30 us, cold
        batch.seq_lens.data_ptr(),
        batch.rows.data_ptr(),
        batch.page_table.data_ptr(),
        batch.slots.data_ptr(),
        len(batch.host_seq_lens),
        batch.page_size,
        batch.page_table.stride(0),
    )
