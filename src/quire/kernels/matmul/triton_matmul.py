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
from quire.kernels.norm.triton_norm import add_rms_norm_e4m3, rms_norm
from quire.kernels.table import LinearInput, NormParts, PartialNorm, QuantizedNorm
from quire.kernels.triton_chain import chained
from quire.quant.layouts.layout import Dense, Layout
from quire.quant.layouts.per_channel import Fp8Channel

_E4M3_CAPABILITY = (8, 9)


def linear(
    weight: Layout, bias: Tensor | None, activation: str | None
) -> Callable[[Tensor | LinearInput], Tensor]:
    """As `reference.linear`; x may be of `linear_add_norm`."""
    plain = reference.linear(weight, bias, activation)
    layer = _Layer.of(weight, bias, activation)
    if layer is None:
        return lambda x: plain(_normalised(x))
    gated = activation if layer.cores and bias is None else None

    def product(x: Tensor | LinearInput) -> Tensor:
        tile = layer.tile(x if isinstance(x, Tensor) else x.total)
        if not isinstance(x, layer.takes(tile)):
            x = _normalised(x)
        if isinstance(tile, Tile):
            return layer.run(x, tile)
        if tile is not None:
            return layer.run_shared(x, tile)
        if layer.quantizes:
            return layer.scaled_mm(x)
        assert isinstance(x, Tensor)
        if gated is not None and hopper_matmul.gates(x, layer.weight):
            return hopper_matmul.gated(x, layer.weight, gated)
        return layer.dense(x) if layer.scale is None else plain(x)

    return product


def linear_add_norm(
    weight: Layout, bias: Tensor | None
) -> Callable[[Tensor, Tensor, NormParts], LinearInput | None]:
    """See `table.LinearAddNorm`."""
    layer = _Layer.of(weight, bias, None)
    whole = linear(weight, bias, None)

    def product(x: Tensor, residual: Tensor, norm: NormParts) -> LinearInput | None:
        if layer is None:
            return None
        tile = layer.tile(x)
        kind = layer.takes(tile)
        # What is scaled and not normalised may be beyond float16.
        if kind is PartialNorm and x.dtype == torch.bfloat16:
            assert isinstance(tile, Tile)
            return layer.run_add_norm(x, tile, residual, norm)
        if kind is QuantizedNorm:
            e4m3 = _e4m3_like(residual)
            how = norm.weight, norm.eps, norm.weight_offset
            return QuantizedNorm(add_rms_norm_e4m3(whole(x), residual, *how, e4m3), *e4m3, norm)
        return None

    return product


def _normalised(x: Tensor | LinearInput) -> Tensor:
    if isinstance(x, Tensor):
        return x
    return rms_norm(x.total, x.norm.weight, x.norm.eps, x.norm.weight_offset)


def _e4m3_like(x: Tensor) -> tuple[Tensor, Tensor]:
    """Values [T, in] and scales [T]."""
    values = torch.empty(x.shape, dtype=torch.float8_e4m3fn, device=x.device)
    return values, torch.empty(len(x), dtype=torch.float32, device=x.device)


@dataclass(frozen=True, slots=True)
class _Layer:
    """One layer's weight [out, in] and what is done to the product.

    Args:
        cores: of a Hopper whose own matmul can take it, else 0.
        quantizes: whether the library's matmul takes e4m3 activations for it.
    """

    weight: Tensor
    scale: Tensor | None
    bias: Tensor | None
    activation: str | None
    cores: int
    quantizes: bool

    @classmethod
    def of(cls, weight: Layout, bias: Tensor | None, activation: str | None) -> "_Layer | None":
        """None for a layout that no kernel here reads."""
        if not isinstance(weight, Dense | Fp8Channel):
            return None
        held = weight.weight
        cores = hopper_matmul.prepare(held, activation)
        if isinstance(weight, Dense):
            return cls(held, None, bias, activation, cores, quantizes=False)
        if held.is_cuda and torch.cuda.get_device_capability(held.device) < _E4M3_CAPABILITY:
            return None
        # torch._scaled_mm has no others.
        quantizes = held.is_cuda and weight.dtype == torch.bfloat16
        quantizes = quantizes and not any(n % 16 for n in weight.shape)
        return cls(held, weight.scale, bias, activation, cores, quantizes)

    def tile(self, x: Tensor) -> Tile | SharedTile | None:
        """What takes x [T, in]; None: the library."""
        num_rows, depth = self.weight.shape
        size = self.weight.element_size()
        if size == 4:
            return None
        shared = shared_tile(len(x), num_rows, depth * size, size == 1, self.cores)
        if shared is not None and hopper_matmul.fits(x):
            return shared
        if size == 1:
            return fp8_tile(len(x), num_rows)
        return dense_tile(len(x), num_rows, depth)

    def takes(self, tile: Tile | SharedTile | None) -> type:
        """The kind of input, beside tensors, that there is a kernel for."""
        if isinstance(tile, Tile) and not tile.quantized:
            return Tensor if tile.tokens == 1 else PartialNorm
        quantizes = self.quantizes if tile is None else self.scale is not None
        return QuantizedNorm if quantizes else Tensor

    def dense(self, x: Tensor) -> Tensor:
        """x [T, in] through torch's matmul."""
        return self._activate(F.linear(x, self.weight, self.bias))

    def scaled_mm(self, x: Tensor | LinearInput) -> Tensor:
        """x [T, in], quantized, through torch's row-wise scaled matmul."""
        assert self.scale is not None
        values, scales = self._quantized(x)
        y = torch._scaled_mm(
            values,
            self.weight.t(),
            scale_a=scales.unsqueeze(1),
            scale_b=self.scale.unsqueeze(0),
            bias=self.bias,
            out_dtype=torch.bfloat16,
            use_fast_accum=True,
        )
        return self._activate(y)

    def run_shared(self, x: Tensor | LinearInput, tile: SharedTile) -> Tensor:
        """x [T, in] through Hopper's kernel."""
        out = self._out(x)
        scales = None
        if self.scale is not None:
            x, scales = self._quantized(x)
        assert isinstance(x, Tensor)
        hopper_matmul.many_rows(
            x, scales, self.weight, self.scale, self.bias, self.activation, tile, out
        )
        return out

    def run(self, x: Tensor | LinearInput, tile: Tile) -> Tensor:
        """x [T, in] through the kernel that `tile` is for."""
        out = self._out(x)
        width, depth = out.shape[1], self.weight.shape[1]
        scale, bias = (out if t is None else t for t in (self.scale, self.bias))
        if tile.quantized:
            values, scales = self._quantized(x)
            grid, options = self._grid(len(out), tile)
            fp8_kernel[grid](
                values, scales, self.weight, scale, bias, out, len(out), width, depth,
                TOKENS=tile.tokens, **options,
            )  # fmt: skip
        elif tile.tokens == 1:
            assert isinstance(x, Tensor)
            grid, options = self._grid(1, tile)
            one_row_kernel[grid](
                x, self.weight, scale, bias, out, width, depth,
                SCALED=self.scale is not None, LINES=tile.lines, **options,
            )  # fmt: skip
        elif isinstance(x, PartialNorm):
            ends = x.squares, len(x.squares), x.norm.eps, 0.0
            self._few_rows(x.scaled, tile, out, out, out, out, *ends, adds=False)
        else:
            assert isinstance(x, Tensor)
            self._few_rows(x, tile, out, out, out, out, out, 0, 0.0, 0.0, adds=False)
        return out

    def run_add_norm(self, x: Tensor, tile: Tile, residual: Tensor, norm: NormParts) -> PartialNorm:
        """See `table.LinearAddNorm`."""
        total, scaled = torch.empty_like(residual), torch.empty_like(residual)
        num_parts = triton.cdiv(len(self.weight), tile.rows)
        squares = torch.empty((num_parts, len(x)), dtype=torch.float32, device=x.device)
        begins = residual, norm.weight, total, squares, 0, 0.0, norm.weight_offset
        self._few_rows(x, tile, scaled, *begins, adds=True)
        return PartialNorm(total, scaled, squares, norm)

    def _few_rows(
        self,
        x: Tensor,
        tile: Tile,
        out: Tensor,
        residual: Tensor,
        norm_weight: Tensor,
        total: Tensor,
        squares: Tensor,
        num_parts: int,
        eps: float,
        weight_offset: float,
        *,
        adds: bool,
    ) -> None:
        """As the kernel has them; those that it does not need are any."""
        assert x.stride(1) == 1, "a token's values must be contiguous"
        grid, options = self._grid(len(x), tile)
        scale, bias = (out if t is None else t for t in (self.scale, self.bias))
        few_rows_kernel[grid](
            x, self.weight, scale, bias, out, residual, norm_weight, total, squares, num_parts,
            eps, weight_offset, len(x), out.shape[1], x.shape[1], x.stride(0),
            TOKENS=tile.tokens, SPLIT=tile.split, SCALED=self.scale is not None,
            LINES=tile.lines, ADDS=adds,
            PARTS=triton.next_power_of_2(num_parts) if num_parts else 0, **options,
        )  # fmt: skip

    def _grid(self, num_tokens: int, tile: Tile) -> tuple[tuple[int, int], dict[str, Any]]:
        """Its programs, and the options of all kernels."""
        rows, depth = self.weight.shape
        return (triton.cdiv(rows, tile.rows), triton.cdiv(num_tokens, tile.tokens)), {
            "BIASED": self.bias is not None,
            "ACTIVATION": self.activation,
            "EVEN": depth % (tile.depth * tile.split) == 0,
            "ROWS": tile.rows,
            "DEPTH": tile.depth,
            "STAGES": tile.stages,
            "num_warps": tile.num_warps,
            **chained(self.weight),
        }

    def _out(self, x: Tensor | LinearInput) -> Tensor:
        like = x if isinstance(x, Tensor) else x.total
        width = self.weight.shape[0] // (1 if self.activation is None else 2)
        return like.new_empty((len(like), width))

    def _quantized(self, x: Tensor | LinearInput) -> tuple[Tensor, Tensor]:
        """x [T, in] -> (e4m3 [T, in], the tokens' scales [T])."""
        if isinstance(x, QuantizedNorm):
            return x.values, x.scales
        assert isinstance(x, Tensor)
        values, scales = _e4m3_like(x)
        depth = x.shape[1]
        block = triton.next_power_of_2(depth)
        quantize_rows_kernel[(len(x),)](
            x, values, scales, depth, x.stride(0), BLOCK=block, num_warps=8, **chained(x)
        )
        return values, scales

    def _activate(self, y: Tensor) -> Tensor:
        return y if self.activation is None else gated_act(y, self.activation)
