"""Times each Triton op on a CUDA device against what the device can do.

    python benchmarks/kernels.py            # every op
    python benchmarks/kernels.py attention  # one of them

A row gives the median time of a call, what it moves or computes per second, and that as a share
of the device's own pace in the same run: a large copy for bytes, a large bf16 matmul for
operations. "torch" is the time of torch's own way to the same result, where it has one.
A call is timed as a step runs it, in a CUDA graph: the time that Python takes to launch it does
not show. Nothing of it is in L2 before; what sees to that is timed alone and subtracted.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
import triton

from quire.kernels.attention.parts import plan_parts
from quire.kernels.batch import AttentionBatch
from quire.kernels.select import triton_ops
from quire.kernels.table import DrawNumbers, Ops, Rope
from quire.quant.layouts.layout import Dense
from quire.quant.layouts.per_channel import Fp8Channel

DTYPE = torch.bfloat16
PAGE_SIZE = 16
CALLS = 5  # in a graph
REPLAYS = 10


@dataclass(frozen=True)
class Case:
    """One call; `work` counts bytes if `unit` is "GB/s", operations if "TFLOP/s"."""

    op: str
    shape: str
    call: Callable[[], object]
    work: float
    unit: str = "GB/s"
    baseline: Callable[[], object] | None = None


def randn(*shape: int, dtype: torch.dtype = DTYPE) -> torch.Tensor:
    return torch.randn(*shape, device="cuda", dtype=dtype)


def milliseconds(call: Callable[[], object]) -> float:
    """Of one call."""
    call()  # kernels compile, libraries make workspaces
    l2 = torch.cuda.get_device_properties(0).L2_cache_size
    other = torch.empty(2 * l2, dtype=torch.int8, device="cuda")

    def cold_call() -> None:
        other.zero_()
        call()

    return (_graph_milliseconds(cold_call) - _graph_milliseconds(other.zero_)) / CALLS


def _graph_milliseconds(work: Callable[[], object]) -> float:
    """Of a graph of CALLS times that."""
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(CALLS):
            work()
    times = []
    for _ in range(REPLAYS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times)


def device_pace() -> dict[str, float]:
    """What a large copy (bytes read and written) and a large matmul reach, per second."""
    source = torch.empty(1 << 30, dtype=torch.int8, device="cuda")
    target = torch.empty_like(source)
    copy = 2 * source.numel() / milliseconds(lambda: target.copy_(source)) * 1e3
    a, b = randn(8192, 8192), randn(8192, 8192)
    matmul = 2 * 8192**3 / milliseconds(lambda: a @ b) * 1e3
    return {"GB/s": copy, "TFLOP/s": matmul}


def norm_cases(ops: Ops) -> Iterator[Case]:
    for tokens in (1, 64, 4096):
        x, residual, weight = randn(tokens, 4096), randn(tokens, 4096), randn(4096)
        yield Case(
            "rms_norm",
            f"[{tokens}, 4096]",
            lambda x=x, w=weight: ops.rms_norm(x, w, 1e-5, 0.0),
            2 * x.nbytes,
            baseline=lambda x=x, w=weight: F.rms_norm(x, (4096,), w, 1e-5),
        )
        yield Case(
            "add_rms_norm",
            f"[{tokens}, 4096]",
            lambda x=x, r=residual, w=weight: ops.add_rms_norm(x, r, w, 1e-5, 0.0),
            4 * x.nbytes,
            baseline=lambda x=x, r=residual, w=weight: F.rms_norm(x + r, (4096,), w, 1e-5),
        )
        heads, weight = randn(tokens, 32, 128), randn(128)
        yield Case(
            "rms_norm",
            f"[{tokens}, 32, 128]",
            lambda x=heads, w=weight: ops.rms_norm(x, w, 1e-5, 0.0),
            2 * heads.nbytes,
        )


def elementwise_cases(ops: Ops) -> Iterator[Case]:
    table = randn(8192, 128, dtype=torch.float32)
    for tokens in (1, 64, 4096):
        fused = randn(tokens, 48 * 128)
        q, k, v = (x.unflatten(1, (-1, 128)) for x in fused.split([4096, 1024, 1024], dim=1))
        positions = torch.arange(tokens, device="cuda")
        pages = randn(2, tokens // PAGE_SIZE + 1, 8, PAGE_SIZE, 128)
        rope = Rope(table, interleaved=False)
        yield Case(
            "prepare_qkv",
            f"{tokens} tokens, 32 + 8 heads of 128",
            lambda q=q, k=k, v=v, pages=pages, p=positions, rope=rope: ops.prepare_qkv(
                q, k, v, None, rope, p, pages[0], pages[1], p
            ),
            2 * fused.nbytes,
        )
        gate_up = randn(tokens, 2 * 14336)
        yield Case(
            "gated_act",
            f"[{tokens}, 2 * 14336] silu",
            lambda x=gate_up: ops.gated_act(x, "silu"),
            1.5 * gate_up.nbytes,
        )


def attention_batch(lens: list[tuple[int, int]], num_pages: int, kv_heads: int) -> AttentionBatch:
    query_lens = np.array([q for q, _ in lens], np.int32)
    seq_lens = np.array([n for _, n in lens], np.int32)
    starts = np.concatenate([[0], np.cumsum(query_lens)]).astype(np.int32)
    width = -(-int(seq_lens.max()) // PAGE_SIZE)
    count = len(lens) * width
    ids = torch.randperm(max(count, num_pages), device="cuda")[:count] % num_pages
    cores = torch.cuda.get_device_properties(0).multi_processor_count
    rows = np.arange(len(lens), dtype=np.int32)
    parts = plan_parts(starts, rows, seq_lens, None, kv_heads, num_cores=cores)
    return AttentionBatch(
        query_starts=torch.from_numpy(starts).cuda(),
        seq_lens=torch.from_numpy(seq_lens).cuda(),
        rows=torch.arange(len(lens), dtype=torch.int32, device="cuda"),
        page_table=ids.view(len(lens), width).int(),
        slots=torch.zeros(int(starts[-1]), dtype=torch.int64, device="cuda"),
        page_size=PAGE_SIZE,
        host_query_lens=query_lens,
        host_seq_lens=seq_lens,
        max_query_len=int(query_lens.max()),
        max_seq_len=int(seq_lens.max()),
        parts=torch.from_numpy(parts).cuda(),
        arrivals=torch.zeros(len(lens), kv_heads, dtype=torch.int32, device="cuda"),
    )


def attention_case(
    ops: Ops,
    name: str,
    lens: list[tuple[int, int]],
    heads: int,
    kv_heads: int,
    head_dim: int,
    cache_dtype: torch.dtype = DTYPE,
) -> Case:
    num_pages = sum(-(-n // PAGE_SIZE) for _, n in lens)
    pages = randn(2, num_pages, kv_heads, PAGE_SIZE, head_dim).to(cache_dtype)
    batch = attention_batch(lens, num_pages, kv_heads)
    q = randn(int(batch.host_query_lens.sum()), heads, head_dim)
    scale = head_dim**-0.5
    baseline = None
    query_len, seq_len = lens[0]
    if all(pair == lens[0] for pair in lens) and query_len in (1, seq_len):
        dense = q.view(len(lens), query_len, heads, head_dim).transpose(1, 2)
        k, v = randn(2, len(lens), kv_heads, seq_len, head_dim)

        def baseline() -> object:
            return F.scaled_dot_product_attention(
                dense, k, v, is_causal=query_len > 1, scale=scale, enable_gqa=True
            )

    if query_len == 1:
        values = 2.0 * sum(n for _, n in lens) * kv_heads * head_dim
        work, unit = values * cache_dtype.itemsize, "GB/s"
    else:
        pairs = sum(q * (n - (q - 1) / 2) for q, n in lens)
        work, unit = 4.0 * pairs * heads * head_dim, "TFLOP/s"
    shape = f"{name}, {heads}/{kv_heads} heads of {head_dim}"
    call = lambda: ops.attention(q, pages[0], pages[1], batch, scale, None, None)  # noqa: E731
    return Case("attention", shape, call, work, unit, baseline)


def attention_cases(ops: Ops) -> Iterator[Case]:
    for heads, kv_heads, head_dim in ((32, 8, 128), (16, 8, 256), (32, 32, 64)):
        sizes = (heads, kv_heads, head_dim)
        yield attention_case(ops, "decode 1 x 1024", [(1, 1024)], *sizes)
        yield attention_case(ops, "decode 1 x 32768", [(1, 32768)], *sizes)
        yield attention_case(ops, "decode 16 x 4096", [(1, 4096)] * 16, *sizes)
        yield attention_case(ops, "decode 256 x 1024", [(1, 1024)] * 256, *sizes)
        fp8 = torch.float8_e4m3fn
        for batch in (32, 128, 256):
            name = f"decode {batch} x 1024, fp8 pages"
            yield attention_case(ops, name, [(1, 1024)] * batch, *sizes, fp8)
        yield attention_case(ops, "prompt of 8192", [(8192, 8192)], *sizes)
        yield attention_case(ops, "4 prompts of 2048", [(2048, 2048)] * 4, *sizes)
        yield attention_case(ops, "16 prompts of 512", [(512, 512)] * 16, *sizes)
        yield attention_case(ops, "chunk 2048 of 16384", [(2048, 16384)], *sizes)
        mixed = [(512, 512)] + [(1, 1024)] * 63
        yield attention_case(ops, "prompt of 512 + 63 decodes", mixed, *sizes)


LINEARS = {  # name: (rows of the weight, depth, activation)
    "8B qkv": (6144, 4096, None),
    "8B out": (4096, 4096, None),
    "8B gate_up": (28672, 4096, "silu"),
    "8B down": (4096, 14336, None),
    "8B head": (128256, 4096, None),
    "0.6B qkv": (4096, 1024, None),
    "0.6B out": (1024, 2048, None),
    "0.6B gate_up": (6144, 1024, "silu"),
    "0.6B down": (1024, 3072, None),
}


def matmul_cases(ops: Ops) -> Iterator[Case]:
    for layout in (Dense, Fp8Channel):
        for name, (rows, depth, activation) in LINEARS.items():
            dense = randn(rows, depth) / depth**0.5
            weight = layout.empty(rows, depth, DTYPE, dense.device)
            weight.fill(dense)
            product = ops.linear(weight, None, activation)
            for tokens in (1, 8, 32, 128, 256):
                x = randn(tokens, depth)
                yield Case(
                    "linear",
                    f"{name}, {layout.__name__}, {tokens} tokens",
                    lambda x=x, product=product: product(x),
                    sum(t.nbytes for t in weight.tensors().values()),
                    baseline=lambda x=x, w=dense: F.linear(x, w),
                )


def expert_cases(ops: Ops) -> Iterator[Case]:
    hidden, width, num_experts, top_k = 2048, 768, 128, 8
    gate_up = randn(num_experts, 2 * width, hidden) / 50
    down = randn(num_experts, hidden, width) / 50
    for tokens in (1, 64, 4096):
        x = randn(tokens, hidden)
        weights, ids = randn(tokens, num_experts).float().softmax(-1).topk(top_k, dim=-1)
        used = ids.unique().numel()
        small = tokens <= 64
        weight_bytes = used * 3.0 * width * hidden * 2
        operations = 2.0 * tokens * top_k * 3 * width * hidden
        yield Case(
            "experts",
            f"{tokens} tokens, {top_k} of {num_experts}, {hidden} -> {width}",
            lambda x=x, i=ids, w=weights: ops.experts(x, i, w, gate_up, down, "silu"),
            weight_bytes if small else operations,
            "GB/s" if small else "TFLOP/s",
        )


def sample_cases(ops: Ops) -> Iterator[Case]:
    vocab_size = 128256
    settings = {
        "greedy": (0.0, 0, 1.0),
        "temperature": (1.0, 0, 1.0),
        "top_k 50": (1.0, 50, 1.0),
        "top_p 0.9": (0.8, 0, 0.9),
        "top_k 50, top_p 0.9": (0.8, 50, 0.9),
    }
    for rows in (1, 64, 256):
        logits = randn(rows, vocab_size, dtype=torch.float32) * 3
        for name, (temperature, top_k, top_p) in settings.items():
            numbers = DrawNumbers(
                torch.full((rows,), temperature, device="cuda"),
                torch.full((rows,), top_k, dtype=torch.int32, device="cuda"),
                torch.full((rows,), top_p, device="cuda"),
                torch.zeros(rows, device="cuda"),
                torch.arange(rows, device="cuda"),
                torch.arange(rows, device="cuda"),
            )
            yield Case(
                "sample",
                f"[{rows}, {vocab_size}] {name}",
                lambda x=logits, n=numbers: ops.sample(x, n),
                logits.nbytes,
                baseline=(lambda x=logits: x.sort(dim=-1)) if "top" in name else None,
            )


CASES: dict[str, Callable[[Ops], Iterator[Case]]] = {
    "norm": norm_cases,
    "elementwise": elementwise_cases,
    "attention": attention_cases,
    "matmul": matmul_cases,
    "experts": expert_cases,
    "sample": sample_cases,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("groups", nargs="*", help=f"of {', '.join(CASES)}; all without one")
    groups = parser.parse_args().groups or list(CASES)
    properties = torch.cuda.get_device_properties(0)
    ops = triton_ops(properties.multi_processor_count, properties.name)
    pace = device_pace()
    print(f"{properties.name}, torch {torch.__version__}, triton {triton.__version__}, {DTYPE}")
    print(f"copy {pace['GB/s'] / 1e9:.0f} GB/s, matmul {pace['TFLOP/s'] / 1e12:.0f} TFLOP/s")
    print(f"{'op':13} {'shape':50} {'us':>9} {'rate':>14} {'share':>6} {'torch us':>9}")
    for group in groups:
        for case in CASES[group](ops):
            time = milliseconds(case.call)
            rate = case.work / time * 1e3
            scale = 1e9 if case.unit == "GB/s" else 1e12
            share = f"{100 * rate / pace[case.unit]:.0f}%"
            torch_time = f"{milliseconds(case.baseline) * 1e3:.1f}" if case.baseline else ""
            print(
                f"{case.op:13} {case.shape:50} {time * 1e3:9.1f} "
                f"{rate / scale:6.0f} {case.unit:7} {share:>6} {torch_time:>9}",
                flush=True,
            )


if __name__ == "__main__":
    main()
