"""A whole decode step in C++ (`csrc/decode.cpp`), and the tokens of others back to their rows.

In the middle of a model an operation of torch takes 5 to 50 us, as its code is in no cache any
more, and a step that is not one call has some twenty beside the layers.
"""

import ctypes
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from quire.kernels.batch import LayerCache
from quire.kernels.layers.cpp_layers import (
    BatchStruct,
    NormStruct,
    describe,
    linear_struct,
    norm_struct,
    widths,
)
from quire.kernels.matmul.cpp_panels import LinearStruct, Panels
from quire.kernels.table import Append, Decode, DecodeCall, DecoderParts, LinearParts, RowTensors
from quire.platform.native import FLOAT, POINTER, SIZE, Library

_MADE = {  # a line's working memory, by the struct's names
    torch.int64: ("token_ids", "positions", "next_positions", "line_seed"),
    torch.int32: ("line_top_k",),
    torch.float32: ("line_temperature", "line_top_p", "line_min_p"),
}


class _Decoder(ctypes.Structure):
    """QuireDecoder of csrc/quire.h."""

    _fields_ = [
        ("layers", POINTER),
        *((name, LinearStruct) for name in ("embedding", "head")),
        ("final_norm", NormStruct),
        *((n, POINTER) for n in ("batches", "tokens", "rows", "computed", "new_pages")),
        *((n, POINTER) for n in ("temperature", "top_p", "min_p", "seed", "top_k")),
        ("seq_lens", POINTER),
        *((name, POINTER) for names in _MADE.values() for name in names),
        *((n, POINTER) for n in ("x", "delta", "residual", "inner", "wide", "logits")),
        *((n, SIZE) for n in ("count", "groups", "hidden", "token_stride", "most_lines")),
        ("multiplier", FLOAT),
    ]


def decode_of(library: Library) -> Decode:
    kernel = library.kernel("decode", POINTER, POINTER, SIZE)

    def decode(
        parts: DecoderParts, caches: Sequence[LayerCache], rows: RowTensors, most: int
    ) -> DecodeCall | None:
        """None unless the kernels of each op take every part."""
        layers = describe(parts.layers, caches)
        weights = (parts.embedding, parts.head.weight)
        if layers is None or not all(isinstance(weight, Panels) for weight in weights):
            return None
        groups = len(rows.page_tables)
        step, new_pages = np.zeros((2, most), dtype=np.int32), np.full((groups, most), -1, np.int32)
        seq_lens = np.empty(most, dtype=np.int32)
        ones, slots = np.ones(most, dtype=np.int32), np.empty((groups, most), dtype=np.int64)
        batches = (BatchStruct * groups)()
        for batch, table, slot in zip(batches, rows.page_tables, slots, strict=True):
            batch.query_lens, batch.rows = ones.ctypes.data, step.ctypes.data
            batch.seq_lens = seq_lens.ctypes.data
            batch.page_table, batch.table_width = table.data_ptr(), table.stride(0)
            batch.slots, batch.page_size = slot.ctypes.data, rows.page_size
        memory = _working_memory(parts, most)
        described = _Decoder(
            layers=ctypes.addressof(layers),
            embedding=linear_struct(LinearParts(parts.embedding, None)),
            head=linear_struct(parts.head),
            final_norm=norm_struct(parts.final_norm),
            batches=ctypes.addressof(batches),
            tokens=rows.tokens.data_ptr(),
            rows=step.ctypes.data,
            computed=step[1].ctypes.data,
            new_pages=new_pages.ctypes.data,
            seq_lens=seq_lens.ctypes.data,
            temperature=rows.temperature.data_ptr(),
            top_p=rows.top_p.data_ptr(),
            min_p=rows.min_p.data_ptr(),
            seed=rows.seed.data_ptr(),
            top_k=rows.top_k.data_ptr(),
            **{name: tensor.data_ptr() for name, tensor in memory.items()},
            count=len(parts.layers),
            groups=groups,
            hidden=parts.head.weight.shape[1],
            token_stride=rows.tokens.stride(0),
            most_lines=most,
            multiplier=parts.multiplier,
        )
        held = (layers, batches, ones, seq_lens, slots, memory, parts, caches, rows)  # by address

        def run(count: int, _: object = held) -> Tensor:
            tokens = torch.empty(count, dtype=torch.int64)
            kernel(ctypes.addressof(described), tokens.data_ptr(), count)
            return tokens

        logits, positions = memory["logits"], memory["next_positions"]
        return DecodeCall(step, new_pages, logits, positions, run)

    return decode


def _working_memory(parts: DecoderParts, most: int) -> dict[str, Tensor]:
    """For each line, by the struct's names. What no step uses is never made resident."""
    vocab_size, hidden = parts.head.weight.shape
    inner, wide = widths(parts.layers)
    sizes = {"inner": inner, "wide": wide, "logits": vocab_size}
    sizes |= dict.fromkeys(("x", "delta", "residual"), hidden)
    memory = {n: torch.empty(most, size, dtype=torch.bfloat16) for n, size in sizes.items()}
    return memory | {n: torch.empty(most, dtype=t) for t, names in _MADE.items() for n in names}


def append_of(library: Library) -> Append:
    kernel = library.kernel("append", *[POINTER] * 4, *[SIZE] * 2)

    def append(tokens: Tensor, rows: Tensor, seq_lens: Tensor, sampled: Tensor) -> None:
        given = (tokens, rows, seq_lens.long(), sampled)
        kernel(*[x.data_ptr() for x in given], rows.shape[0], tokens.stride(0))

    return append
