"""Programmatic dependent launch (compute capability 9.0): a kernel starts while the one before
it still runs.

A chained kernel starts once every program of the one before has let it and there is room for it,
asks for what no chained kernel writes (weights; the plan, the page table and the keys of earlier
steps, all written before `lookup` lets the next one start), and waits for the one before to be
complete.
Every program waits, before it reads what another kernel wrote or writes anything itself; so "the
one before is complete" means that all before it are.

With one token each kernel lets the next start at once: a decode step takes 4.19 ms instead of
4.30 (Llama-8B) and 0.87 instead of 0.97 (Qwen3-0.6B; H200, context 1024). With more, programs are
larger, and those that start early crowd onto the few multiprocessors that are free first. So the
matmul ahead of another lets it start when its last program has read its weights, and a norm when
what it waits for is complete: the matmul behind it then begins on an empty chip. Microseconds of
a layer in a CUDA graph, attention over 1040 keys, unchained, chained so, and with the next kernel
let in at once: Llama-8B 128.5, 127.0, 133.8 at 8 tokens, 143.3 and 139.0 at 16, 160.7, 155.2,
175.3 at 32; Qwen3-0.6B 40.3 and 36.0 at 8, 68.5 and 63.4 at 32. With e4m3 weights, 8 tokens and
nearly the tiles in use: 87.4 and 81.4.

Attention, with 128 KB a program (`attention.tuning.decode_stages`), and norms start at the
beginning of the matmul ahead: 127.0 us of Llama's layer instead of 128.2 at 8 tokens, 133.9
instead of 135.6 at 16, 154.3 instead of 156.2 at 32; Qwen's 34.1 instead of 33.8 at 8, 58.6
instead of 60.5 at 32.

Nothing was gained by asking for the weights of the next matmul ahead of it in the L2 cache (8 to
34 MB, by attention, norm or the matmul ahead, at its beginning or its end): at best as long, and
0.5 to 5 us longer the more was asked for.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_ARCH = 90


@triton.jit
def let_next_start(PDL: tl.constexpr) -> None:
    """The next kernel may start, as far as this program is concerned."""
    if PDL:
        gdc_launch_dependents()


@triton.jit
def wait_for_input(PDL: tl.constexpr) -> None:
    """Return when the kernels before are complete."""
    if PDL:
        gdc_wait()


def chained(x: Tensor) -> dict[str, bool]:
    """Launch options and the constant PDL of a chained kernel on the device of `x`."""
    return {"PDL": True, "launch_pdl": True} if _chains(x.device) else UNCHAINED


UNCHAINED = {"PDL": False}


@functools.cache
def _chains(device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    target = triton.runtime.driver.active.get_current_target()
    return bool(target.backend == "cuda" and target.arch >= _ARCH)
