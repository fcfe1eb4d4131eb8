"""Time of one sampling step: batch sizes, vocabularies and features, on whatever device is there.

    python benchmarks/sampling.py [--device cpu|cuda] [--batch 1 8 64 256] [--vocab 32768 131072]

A step is what the runner calls once per step of the model: from logits to token ids on the
device, with the batch steady (nothing starts, nothing ends). Times are wall-clock per step with
the device's queue kept full, so on a GPU they are the larger of the launch time on the host and
the work on the device. Restoring the logits between steps is measured alone and subtracted.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from quire.core.plan import RowStart
from quire.core.sampling_params import SamplingParams
from quire.kernels.select import select_ops
from quire.kernels.table import Ops
from quire.platform.caps import DeviceCaps
from quire.platform.detect import detect
from quire.platform.streams import synchronize
from quire.sampling.sampler import Sampler

CONTEXT = 1024  # tokens in each sequence, half of them prompt
SECONDS = 0.5  # spent on each measurement, once warm
MAX_STEPS = 200

CASES = {
    "greedy": {"temperature": 0.0},
    "T=0.8": {"temperature": 0.8},
    "T=0.8 top_p=0.95": {"temperature": 0.8, "top_p": 0.95},
    "T=0.8 top_k=50": {"temperature": 0.8, "top_k": 50},
    "T=0.8 min_p=0.05": {"temperature": 0.8, "min_p": 0.05},
    "greedy + penalties": {
        "temperature": 0.0,
        "repetition_penalty": 1.1,
        "frequency_penalty": 0.2,
        "presence_penalty": 0.1,
    },
    "greedy + logprobs=5": {"temperature": 0.0, "logprobs": 5},
}


def seconds_per_step(step: Callable[[], object], caps: DeviceCaps) -> float:
    """Wall-clock seconds of one call, the device's queue kept full."""
    for _ in range(2):
        step()
    synchronize(caps)
    steps, start = 0, time.perf_counter()
    while steps < 3 or (time.perf_counter() - start < SECONDS and steps < MAX_STEPS):
        step()
        steps += 1
    synchronize(caps)
    return (time.perf_counter() - start) / steps


def measure(num_lines: int, vocab_size: int, options: dict, caps: DeviceCaps, ops: Ops) -> float:
    """Seconds of one sampling step of `num_lines` lines."""
    device = torch.device(caps.torch_device)
    sampler = Sampler(vocab_size, num_lines, device, ops)
    tokens = torch.randint(0, vocab_size, (num_lines, CONTEXT + 1), device=device)
    for row in range(num_lines):
        sampler.rows.start(
            RowStart(
                row=row,
                token_ids=range(CONTEXT),
                num_prompt_tokens=CONTEXT // 2,
                params=SamplingParams(**options),
                seed=row,
                stop_token_ids=(2,),
            )
        )
    model_logits = torch.randn(num_lines, vocab_size, device=device) * 3
    logits = model_logits.clone()
    rows = np.arange(num_lines, dtype=np.int32)
    positions = torch.full((num_lines,), CONTEXT, dtype=torch.int64, device=device)

    def step() -> None:
        logits.copy_(model_logits)
        sampler.sample(logits, rows, positions, tokens, max_position=CONTEXT)

    restore = seconds_per_step(lambda: logits.copy_(model_logits), caps)
    return seconds_per_step(step, caps) - restore


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 64, 256])
    parser.add_argument("--vocab", type=int, nargs="+", default=[32 * 1024, 128 * 1024])
    arguments = parser.parse_args()
    caps = detect(arguments.device)
    ops = select_ops(caps)
    print(f"{caps.name}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"sample op: {ops.reasons['sample']}")
    for vocab_size in arguments.vocab:
        print(f"\nV = {vocab_size}: ms per step")
        print(f"{'':22}" + "".join(f"{f'S = {n}':>12}" for n in arguments.batch))
        for name, options in CASES.items():
            print(f"{name:22}", end="", flush=True)
            for num_lines in arguments.batch:
                seconds = measure(num_lines, vocab_size, options, caps, ops)
                print(f"{seconds * 1e3:12.3f}", end="", flush=True)
            print()


if __name__ == "__main__":
    main()
