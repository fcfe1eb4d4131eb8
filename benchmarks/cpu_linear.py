"""Times the CPU's linear layers against what the machine allows and against torch's bf16 matmul.

    OMP_NUM_THREADS=2 python benchmarks/cpu_linear.py [--rows 1,4,32] [--layouts dense,int8,int4]

Ours, a plain read of the same bytes and torch's are timed in turn and the best of many short calls
counts, so that other work on the machine disturbs them alike and little. Weights rotate through
256 MiB: none is in a cache.

"limit" is the larger of two times: that of the weight's MB at the pace of the read, and that of the
Gop of a product (two for a weight and token) at the pace of arithmetic, which is that of the best
large matmul torch makes of bf16, or twice that for int8 and int4, whose instruction does twice as
much; "by" says which. "share" is what of the limit is reached (above 1: the limit had a worse
moment); "torch" is the time of F.linear on the bf16 weight.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F

from machine import machine_line
from quire.kernels.select import select_ops
from quire.platform.detect import detect
from quire.platform.streams import set_device
from quire.quant.layouts.int4_group import Int4Group
from quire.quant.layouts.layout import Dense, Layout
from quire.quant.layouts.per_channel import Int8Channel

LAYOUTS: dict[str, type[Layout]] = {"dense": Dense, "int8": Int8Channel, "int4": Int4Group}
SHAPES = ((4096, 2048), (2048, 8192))  # [out, in]
POOL_BYTES = 256 << 20
CPU = torch.device("cpu")


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def weights(layout: type[Layout], outputs: int, inputs: int) -> list[Layout]:
    dense = torch.empty(outputs, inputs, dtype=torch.bfloat16).normal_(0, inputs**-0.5)
    made: list[Layout] = []
    while sum(held_bytes(one) for one in made) < POOL_BYTES:
        one = layout.empty(outputs, inputs, torch.bfloat16, CPU)
        one.fill(dense)
        made.append(one)
    return made


def arithmetic() -> float:
    """Operations a second of torch's bf16 matmul at its best."""
    x, w = torch.randn(256, 2048).bfloat16(), torch.randn(1024, 2048).bfloat16()
    best = min(seconds(partial(F.linear, x, w)) for _ in range(500))
    return 2 * 256 * 1024 * 2048 / best


def held_bytes(layout: Layout) -> int:
    return sum(tensor.nbytes for tensor in layout.tensors().values())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", default="1,2,4,8,16,32,128,512")
    parser.add_argument("--layouts", default=",".join(LAYOUTS))
    parser.add_argument("--calls", type=int, default=100)
    options = parser.parse_args()
    caps = detect("cpu")
    set_device(caps)
    ops = select_ops(caps)
    print(f"{machine_line('cpu')}; {caps.isa or 'torch alone'}, {torch.get_num_threads()} threads")
    pace = arithmetic()
    print(f"torch's largest pace: {pace / 1e9:.0f} GFLOP/s in bf16")
    print(f"{'layout':7}{'[out, in]':>14}{'rows':>6}{'MB':>7}{'Gop':>8}{'ms':>9}{'GB/s':>7}"
          f"{'Gop/s':>7}{'limit':>9} {'by':5}{'share':>6}{'torch':>9}{'ratio':>7}")  # fmt: skip
    for outputs, inputs in SHAPES:
        plain = [torch.randn(outputs, inputs).bfloat16()]
        while len(plain) * plain[0].nbytes < POOL_BYTES:
            plain.append(plain[0].clone())
        for name in options.layouts.split(","):
            held = weights(ops.held(LAYOUTS[name], torch.bfloat16), outputs, inputs)
            products = [ops.linear(one, None, None) for one in held]
            size = held_bytes(held[0])
            for rows in map(int, options.rows.split(",")):
                x = torch.randn(rows, inputs).bfloat16()
                ours = read = other = float("inf")
                for i in range(options.calls):
                    at = plain[i % len(plain)]
                    words = plain[(i + 3) % len(plain)].view(torch.int64)
                    ours = min(ours, seconds(partial(products[i % len(products)], x)))
                    read = min(read, seconds(words.sum))
                    other = min(other, seconds(partial(F.linear, x, at)))
                operations = 2 * rows * outputs * inputs
                memory = read * size / plain[0].nbytes
                multiplying = operations / (pace * (1 if name == "dense" else 2))
                limit, by = max((memory, "bytes"), (multiplying, "ops"))
                print(f"{name:7}{f'{outputs} x {inputs}':>14}{rows:6}{size / 1e6:7.1f}"
                      f"{operations / 1e9:8.3f}{ours * 1e3:9.3f}{size / ours / 1e9:7.1f}"
                      f"{operations / ours / 1e9:7.0f}{limit * 1e3:9.3f} {by:5}{limit / ours:6.2f}"
                      f"{other * 1e3:9.3f}{other / ours:7.2f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
