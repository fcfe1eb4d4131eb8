"""`dot` for the Triton kernels, also right in Triton's interpreter.

The interpreter (3.6 to 3.9) multiplies the bit patterns of bf16 operands as integers, so there
they are widened first; that changes nothing, since products are accumulated in fp32 anyway.
"""

import triton
import triton.language as tl

INTERPRETED = tl.constexpr(bool(triton.knobs.runtime.interpret))


@triton.jit
def dot(a: tl.tensor, b: tl.tensor, acc: tl.tensor, PRECISION: tl.constexpr) -> tl.tensor:
    """a [M, D] @ b [D, N] + acc [M, N] fp32. `PRECISION` matters to fp32 operands alone."""
    if INTERPRETED:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), acc, input_precision=PRECISION)
    else:  # noqa: RET505 (a compile-time branch)
        return tl.dot(a, b, acc, input_precision=PRECISION)
