"""Times the CPU's linear layers against a read of the same bytes and against torch's bf16 matmul.

    OMP_NUM_THREADS=2 python benchmarks/cpu_linear.py [--rows 1,4,32] [--layouts dense,int8,int4]

The three are timed in turn and the best of many short calls counts, so that other work on the
machine disturbs them alike and little. Weights rotate through 256 MiB: none is in a cache.
"limit" is the weight's bytes at the pace of the read, "share" what of it is reached (above 1: the
read had a worse moment); "torch" is the time of F.linear on the bf16 weight.
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
        if made:  # values do not change the time
            for to, of in zip(one.tensors().values(), made[0].tensors().values(), strict=True):
                to.copy_(of)
        else:
            one.fill(dense)
        made.append(one)
    return made


def held_bytes(layout: Layout) -> int:
    return sum(tensor.nbytes for tensor in layout.tensors().values())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", default="1,2,4,8,16,32,128")
    parser.add_argument("--layouts", default=",".join(LAYOUTS))
    parser.add_argument("--calls", type=int, default=100)
    options = parser.parse_args()
    caps = detect("cpu")
    set_device(caps)
    ops = select_ops(caps)
    print(f"{machine_line('cpu')}; {caps.isa or 'torch alone'}, {torch.get_num_threads()} threads")
    print(f"{'layout':7}{'[out, in]':>14}{'rows':>6}{'ms':>9}{'limit':>9}{'share':>7}{'GB/s':>7}"
          f"{'GOP/s':>7}{'torch':>9}{'ratio':>7}")  # fmt: skip
    for outputs, inputs in SHAPES:
        plain = weights(Dense, outputs, inputs)
        for name in options.layouts.split(","):
            held = weights(LAYOUTS[name], outputs, inputs)
            products = [ops.linear(one, None, None) for one in held]
            for rows in map(int, options.rows.split(",")):
                x = torch.randn(rows, inputs).bfloat16()
                ours = read = other = float("inf")
                for i in range(options.calls):
                    product, at = products[i % len(products)], plain[i % len(plain)].dequantize()
                    words = plain[(i + 3) % len(plain)].dequantize().view(torch.int64)
                    ours = min(ours, seconds(partial(product, x)))
                    read = min(read, seconds(words.sum))
                    other = min(other, seconds(partial(F.linear, x, at)))
                size = held_bytes(held[0])
                limit = read * size / held_bytes(plain[0])
                print(f"{name:7}{f'{outputs} x {inputs}':>14}{rows:6}{ours * 1e3:9.3f}"
                      f"{limit * 1e3:9.3f}{limit / ours:7.2f}{size / ours / 1e9:7.1f}"
                      f"{2 * rows * outputs * inputs / ours / 1e9:7.0f}{other * 1e3:9.3f}"
                      f"{other / ours:7.2f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
