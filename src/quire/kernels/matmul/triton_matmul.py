"""The linear layer on a GPU: own kernels for as many tokens as they are the fastest for, else
the library's. Which it is depends on the number of tokens alone, known on the host.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
import triton
from torch import Tensor

from quire.kernels.activation.triton_activation import gated_act
from quire.kernels.matmul import hopper_matmul, reference
from quire.kernels.matmul.triton_few_rows import few_rows_kernel
from quire.kernels.matmul.triton_fp8 import fp8_kernel, quantize_rows_kernel
from quire.kernels.matmul.triton_one_row import one_row_kernel
from quire.kernels.matmul.tuning import SharedTile, Tile, dense_tile, fp8_tile, shared_tile
from quire.kernels.triton_chain import chained
from quire.quant.layouts.layout import Dense, Layout
from quire.quant.layouts.per_channel import Fp8Channel

_E4M3_CAPABILITY = (8, 9)


def linear(
    weight: Layout, bias: Tensor | None, activation: str | None
) -> Callable[[Tensor], Tensor]:
    """As `reference.linear`."""
    if not isinstance(weight, Dense | Fp8Channel):
        return reference.linear(weight, bias, activation)
    held = weight.weight
    if isinstance(weight, Fp8Channel):
        if held.is_cuda and torch.cuda.get_device_capability(held.device) < _E4M3_CAPABILITY:
            return reference.linear(weight, bias, activation)
        layer = _Layer(held, weight.scale, bias, activation)
        library: Callable[[Tensor], Tensor] = layer.scaled_mm
        if not held.is_cuda or weight.dtype != torch.bfloat16 or any(n % 16 for n in weight.shape):
            library = reference.linear(weight, bias, activation)  # torch._scaled_mm has no such
        return _by_tokens(layer, library, fp8_tile)
    layer = _Layer(held, None, bias, activation)
    if weight.dtype == torch.float32:
        return layer.dense
    return _by_tokens(layer, layer.dense, dense_tile)


def _by_tokens(
    layer: "_Layer",
    library: Callable[[Tensor], Tensor],
    choose: Callable[[int, int], Tile | None],
) -> Callable[[Tensor], Tensor]:
    num_rows, depth = layer.weight.shape
    size = layer.weight.element_size()
    cores = hopper_matmul.prepare(layer.weight, layer.activation)
    activation = layer.activation if cores and layer.bias is None else None

    def product(x: Tensor) -> Tensor:
        if activation is not None and hopper_matmul.gates(x, layer.weight):
            return hopper_matmul.gated(x, layer.weight, activation)
        shared = shared_tile(x.shape[0], num_rows, depth * size, size == 1, cores)
        if shared is not None and hopper_matmul.fits(x):
            return layer.run_shared(x, shared)
        tile = choose(x.shape[0], num_rows)
        return library(x) if tile is None else layer.run(x, tile)

    return product


@dataclass(frozen=True, slots=True)
class _Layer:
    """One layer's weight [out, in] and what is done to the product."""

    weight: Tensor
    scale: Tensor | None
    bias: Tensor | None
    activation: str | None

    def dense(self, x: Tensor) -> Tensor:
        """x [T, in] through torch's matmul."""
        return self._activate(F.linear(x, self.weight, self.bias))

    def scaled_mm(self, x: Tensor) -> Tensor:
        """x [T, in] bf16, quantized, through torch's row-wise scaled matmul."""
        assert self.scale is not None
        values, scales = self._quantize(x)
        y = torch._scaled_mm(
            values,
            self.weight.t(),
            scale_a=scales.unsqueeze(1),
            scale_b=self.scale.unsqueeze(0),
            bias=self.bias,
            out_dtype=x.dtype,
            use_fast_accum=True,
        )
        return self._activate(y)

    def run(self, x: Tensor, tile: Tile) -> Tensor:
        """x [T, in] through the kernel that `tile` is for."""
        assert x.stride(1) == 1, "a token's values must be contiguous"
        num_tokens, (num_rows, depth) = x.shape[0], self.weight.shape
        gated = self.activation is not None
        width = num_rows // 2 if gated else num_rows
        out = torch.empty((num_tokens, width), dtype=x.dtype, device=x.device)
        blocks = triton.cdiv(width, tile.rows // 2 if gated else tile.rows)
        scale = out if self.scale is None else self.scale
        bias = out if self.bias is None else self.bias
        options: dict[str, Any] = {
            "BIASED": self.bias is not None,
            "ACTIVATION": self.activation,
            "EVEN": depth % (tile.depth * tile.split) == 0,
            "ROWS": tile.rows,
            "DEPTH": tile.depth,
            "STAGES": tile.stages,
            "num_warps": tile.num_warps,
        }
        if tile.quantized:
            values, scales = self._quantize(x)
            fp8_kernel[(blocks, triton.cdiv(num_tokens, tile.tokens))](
                values, scales, self.weight, scale, bias, out, num_tokens, width, depth,
                TOKENS=tile.tokens, **options, **chained(x),
            )  # fmt: skip
            return out
        options["SCALED"] = self.scale is not None
        if tile.tokens == 1:
            one_row_kernel[(blocks,)](
                x, self.weight, scale, bias, out, width, depth,
                LINES=tile.lines, **options, **chained(x),
            )  # fmt: skip
        else:
            few_rows_kernel[(blocks,)](
                x, self.weight, scale, bias, out, num_tokens, width, depth, x.stride(0),
                TOKENS=tile.tokens, SPLIT=tile.split, LINES=tile.lines, **options,
                **chained(x),
            )  # fmt: skip
        return out

    def run_shared(self, x: Tensor, tile: SharedTile) -> Tensor:
        """x [T, in] through Hopper's kernel."""
        width = self.weight.shape[0] // (1 if self.activation is None else 2)
        out = torch.empty((x.shape[0], width), dtype=x.dtype, device=x.device)
        scales = None
        if self.scale is not None:
            x, scales = self._quantize(x)
        hopper_matmul.many_rows(
            x, scales, self.weight, self.scale, self.bias, self.activation, tile, out
        )
        return out

    def _quantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [T, in] -> (e4m3 [T, in], the tokens' scales [T])."""
        num_tokens, depth = x.shape
        values = torch.empty(x.shape, dtype=torch.float8_e4m3fn, device=x.device)
        scales = torch.empty(num_tokens, dtype=torch.float32, device=x.device)
        block = triton.next_power_of_2(depth)
        quantize_rows_kernel[(num_tokens,)](
            x, values, scales, depth, x.stride(0), BLOCK=block, num_warps=8, **chained(x)
        )
        return values, scales

    def _activate(self, y: Tensor) -> Tensor:
        return y if self.activation is None else gated_act(y, self.activation)
