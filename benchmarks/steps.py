"""Where the time of a step goes on a GPU: a table of kernels for decode and prefill steps.

    python benchmarks/steps.py --shape llama-8b --batch 1 32 256 --context 1024
    python benchmarks/steps.py --shape qwen3-0.6b --prefill 8192

A steady decode is timed without the profiler first (milliseconds a step, and the ratio to the
time that reading the weights and the keys and values takes at the measured bandwidth), then
`torch.profiler` records some steps: microseconds a step of each kernel, and the share of the
time in which no kernel ran.
"""

import argparse
import itertools
import random
import re
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from machine import machine_line
from offline import shape_directory
from quire.core.config import engine_config
from quire.core.messages import AddRequest
from quire.core.sampling_params import SamplingParams
from quire.engine.client import InProcessEngine

IDS = itertools.count()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="llama-8b")
    parser.add_argument("--batch", type=int, nargs="*", default=[1, 32, 256])
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--prefill", type=int, nargs="*", default=[], help="prompt lengths")
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--top-p", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=64, help="steps to time")
    parser.add_argument("--rows", type=int, default=14, help="kernels to list")
    parser.add_argument("--option", nargs="*", default=[], help="engine options, key=value")
    args = parser.parse_args()
    print(machine_line())
    bandwidth = read_bandwidth()
    with tempfile.TemporaryDirectory() as folder:
        options = dict(item.split("=", 1) for item in args.option)
        config = engine_config(
            model=str(shape_directory(args.shape, Path(folder))),
            load_format="dummy",
            dtype="bfloat16",
            max_model_len=max([args.context + 4096, *args.prefill]),
            enable_prefix_caching=False,
            **options,
        )
        engine = InProcessEngine(config, progress=False)
        params = SamplingParams(temperature=args.temperature, top_p=args.top_p, ignore_eos=True)
        for batch in args.batch:
            decode(engine, batch, args.context, params, args.steps, args.rows, bandwidth)
        for length in args.prefill:
            prefill(engine, length, params, args.rows)


def decode(
    engine: InProcessEngine,
    batch: int,
    context: int,
    params: SamplingParams,
    steps: int,
    rows: int,
    bandwidth: float,
) -> None:
    """Time, then profile, steady decode steps of `batch` sequences."""
    for _ in range(batch):
        add(engine, context, 2000, params)
    producing: set[str] = set()
    while len(producing) < batch:
        producing.update(d.request_id for d in engine.step().deltas if d.token_ids)
    for _ in range(20):  # graphs are captured, kernels compiled
        engine.step()
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(steps):
        engine.step()
    torch.cuda.synchronize()
    step = (time.perf_counter() - began) / steps
    info = engine.model_info
    kv_token = info.kv_bytes / (info.num_pages[0] * info.page_size)  # one KV group
    seconds = (info.weight_bytes + batch * (context + 50) * kv_token) / bandwidth
    print(
        f"\n# decode, {batch} x {context}: {step * 1e3:.3f} ms a step; "
        f"reading weights and KV takes {seconds * 1e3:.3f} ms ({seconds / step:.0%})"
    )
    table(engine, 10, rows)
    stop(engine)


def prefill(engine: InProcessEngine, length: int, params: SamplingParams, rows: int) -> None:
    """Profile prompts of `length` tokens, a full step at a time."""
    budget = engine.model_info.max_num_batched_tokens
    count = max(1, budget // length)
    for timed in (False, True):
        for _ in range(3 * count):
            add(engine, length, 1, params)
        if not timed:
            while engine.has_work():
                engine.step()
    print(f"\n# prefill, {length} tokens a prompt, {budget} a step")
    table(engine, 3 * max(1, length * count // budget), rows)
    stop(engine)


def add(engine: InProcessEngine, length: int, max_tokens: int, params: SamplingParams) -> None:
    vocab = engine.model_info.vocab_size
    request = AddRequest(
        request_id=str(next(IDS)),
        prompt_token_ids=random.choices(range(10, vocab - 10), k=length),
        params=params,
        seed=0,
        stop_token_ids=[],
        arrival_time=time.time(),
        max_tokens=max_tokens,
    )
    RUNNING.append(request.request_id)
    engine.add(request)


RUNNING: list[str] = []


def stop(engine: InProcessEngine) -> None:
    from quire.core.messages import AbortRequests

    for request_id in RUNNING:
        engine.abort(AbortRequests(request_id))
    RUNNING.clear()
    while engine.has_work():
        engine.step()


def table(engine: InProcessEngine, steps: int, rows: int) -> None:
    """Record `steps` steps; print microseconds a step by kernel, and the idle share.

    A kernel's first column is from the end of the one before it to its own: what it costs the
    step, its launch included. Kernels may start early and wait, which counts in "alone" only.
    """
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as recorded:
        for _ in range(steps):
            engine.step()
        torch.cuda.synchronize()
    kernels = sorted(
        (event.start_ns(), event.start_ns() + event.duration_ns(), short(event.name()))
        for event in recorded.profiler.kineto_results.events()
        if event.device_type() == torch.autograd.DeviceType.CUDA
    )
    took: Counter[str] = Counter()
    alone: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    began = reached = kernels[0][0]
    gaps = []
    for start, end, name in kernels:
        calls[name] += 1
        took[name] += max(0, end - reached)
        alone[name] += end - start
        if start > reached:
            gaps.append(start - reached)
        reached = max(reached, end)
    whole = reached - began
    print(
        f"{whole / steps / 1e3:.0f} us a step under the profiler, idle {sum(gaps) / whole:.1%} "
        f"({sum(g for g in gaps if g > 5000) / steps / 1e3:.0f} us a step in gaps over 5 us, "
        f"largest {[round(g / 1e3) for g in sorted(gaps, reverse=True)[:6]]})"
    )
    print("   us a step     alone   calls")
    for name, total in took.most_common(rows):
        each = (total / steps / 1e3, alone[name] / steps / 1e3, calls[name] / steps)
        print(f"{each[0]:12.1f}{each[1]:10.1f}{each[2]:8.1f}  {name}")
    rest = sum(total for _, total in took.most_common()[rows:])
    print(f"{rest / steps / 1e3:12.1f}{'':18}  {len(took) - rows} others")


def short(name: str) -> str:
    """A kernel's name without its template arguments."""
    name = re.sub(r"<.*", "", name.removeprefix("void "))
    return name[:90]


def read_bandwidth() -> float:
    """Bytes a second that this GPU reads."""
    x = torch.empty(1 << 30, dtype=torch.float32, device="cuda")
    best = float("inf")
    for _ in range(5):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        x.sum()
        end.record()
        end.synchronize()
        best = min(best, start.elapsed_time(end))
    return x.nbytes / best * 1e3


if __name__ == "__main__":
    main()
