"""Times the CPU's attention against what memory and arithmetic allow, and against torch's.

    OMP_NUM_THREADS=2 python benchmarks/cpu_attention.py

What is compared is timed in turn and the best of many short calls counts, so that other work on
the machine disturbs all of it alike and little. Pages rotate through 256 MiB: none is in a cache.
"limit" is the larger of two times: that of the same bytes at the pace of a plain read, and that of
the same operations at the pace of torch's large matmul; "share" is what of it is reached (above 1:
the yardstick had a worse moment). "torch" is its fused attention on gathered pages.
"""

import argparse
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from cpu_linear import seconds
from machine import machine_line
from quire.kernels.attention.torch_attention import attention as torch_attention
from quire.kernels.batch import AttentionBatch
from quire.kernels.select import select_ops
from quire.kernels.table import Attention, Ops
from quire.platform.detect import detect
from quire.platform.streams import set_device

HEADS = {"llama-1b": (32, 8, 64), "qwen3-0.6b": (16, 8, 128)}  # of queries, of keys, their size
ATTENTION = ((1, 1, 512), (1, 1, 4096), (16, 1, 256), (32, 1, 1024), (1, 512, 512), (1, 2048, 2048))
PAGE = 16
POOL_BYTES = 256 << 20
MATMUL = 1024  # rows and columns of the matmul that is the yardstick of arithmetic


def say(name: str, size: int, operations: int, ours: float, limit: float, other: float) -> None:
    print(f"{name:34}{size / 1e6:9.2f}{operations / 1e9:9.2f}{ours * 1e3:9.3f}{limit * 1e3:9.3f}"
          f"{limit / ours:7.2f}{size / ours / 1e9:7.1f}{operations / ours / 1e9:8.0f}"
          f"{other * 1e3:9.3f}{other / ours:7.2f}", flush=True)  # fmt: skip


def attention(ops: Ops, calls: int) -> None:
    square = torch.randn(2, MATMUL, MATMUL).bfloat16()
    for name, (heads, kv_heads, head_dim) in HEADS.items():
        page_bytes = kv_heads * PAGE * head_dim * 2
        pages = torch.randn(2, POOL_BYTES // 2 // page_bytes, kv_heads, PAGE, head_dim).bfloat16()
        for sequences, queries, length in ATTENTION:
            used = sequences * length // PAGE  # pages
            batch = batch_of(sequences, queries, length)
            q = torch.randn(sequences * queries, heads, head_dim).bfloat16()
            ours = read = matmul = other = float("inf")
            for i in range(calls if queries == 1 else max(2, calls // 20)):
                last = pages.shape[1] - used
                at, elsewhere = i * used % (last + 1), (i * used + last // 2) % (last + 1)
                attend = partial(attended, q, pages, batch, batch.page_table + at)
                ours = min(ours, seconds(partial(attend, ops.attention)))
                words = pages[:, elsewhere : elsewhere + used].view(torch.int64)
                read = min(read, sum(seconds(half.sum) for half in words))
                matmul = min(matmul, seconds(partial(torch.mm, *square)))
                if i % 10 == 0:
                    other = min(other, seconds(partial(attend, torch_attention)))
            size = 2 * used * page_bytes
            pairs = sequences * (queries * length - queries * (queries - 1) // 2)
            operations = 4 * pairs * heads * head_dim
            limit = max(read, matmul * operations / (2 * MATMUL**3))
            say(f"{name} {sequences} x {queries} of {length}", size, operations, ours, limit, other)


def attended(
    q: Tensor, pages: Tensor, batch: AttentionBatch, page_table: Tensor, op: Attention
) -> Tensor:
    moved = replace(batch, page_table=page_table, memo={})
    return op(q, pages[0], pages[1], moved, q.shape[2] ** -0.5, None, None)


def batch_of(sequences: int, queries: int, length: int) -> AttentionBatch:
    """Sequences that lie one after the other in the pages."""
    query_lens = np.full(sequences, queries, np.int32)
    seq_lens = np.full(sequences, length, np.int32)
    return AttentionBatch(
        query_starts=torch.arange(0, (sequences + 1) * queries, queries, dtype=torch.int32),
        seq_lens=torch.from_numpy(seq_lens),
        rows=torch.arange(sequences, dtype=torch.int32),
        page_table=torch.arange(sequences * length // PAGE).int().view(sequences, -1),
        slots=torch.empty(0),
        page_size=PAGE,
        host_query_lens=query_lens,
        host_seq_lens=seq_lens,
        max_query_len=queries,
        max_seq_len=length,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=100)
    options = parser.parse_args()
    caps = detect("cpu")
    set_device(caps)
    ops = select_ops(caps)
    print(f"{machine_line('cpu')}; {caps.isa or 'torch alone'}, {torch.get_num_threads()} threads")
    print(f"{'':34}{'MB':>9}{'GFLOP':>9}{'ms':>9}{'limit':>9}{'share':>7}{'GB/s':>7}{'GFLOP/s':>8}"
          f"{'torch':>9}{'ratio':>7}")  # fmt: skip
    attention(ops, options.calls)


if __name__ == "__main__":
    main()
