"""What a decode step on a CPU takes beside its kernels: microseconds of the host.

    OMP_NUM_THREADS=2 python benchmarks/overhead.py --shape qwen3-0.6b --batch 1 32

The step is the engine's: planning, staging, the model, sampling, taking the tokens in. Every call
into the C++ library is timed, and what is left of a step is the overhead. Its median and its least
count: other work on the machine disturbs either. More steps then take turns with a plain read of as
many bytes as the weights have, which is what memory allows in those minutes.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from machine import machine_line
from offline import SHAPES, shape_directory
from quire.core.config import engine_config
from quire.core.sampling_params import SamplingParams
from quire.engine.client import InProcessEngine
from quire.platform.native import Library
from steps import add, stop


class Calls:
    """Counts and times the calls of every kernel that is taken from the library from now on."""

    def __init__(self) -> None:
        self.count, self.seconds = 0, 0.0
        take = Library.kernel

        def timed(library: Library, name: str, *types: Any) -> Callable[..., None]:
            function = take(library, name, *types)

            def call(*arguments: Any) -> None:
                began = time.perf_counter()
                function(*arguments)
                self.count, self.seconds = (
                    self.count + 1,
                    self.seconds + time.perf_counter() - began,
                )

            return call

        Library.kernel = timed  # type: ignore[method-assign]


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", choices=sorted(SHAPES), default="qwen3-0.6b")
    parser.add_argument("--batch", type=int, nargs="*", default=[1, 32])
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--quantization", choices=["int8", "int4"])
    options = parser.parse_args()
    print(machine_line("cpu"))
    calls = Calls()
    with tempfile.TemporaryDirectory() as folder:
        config = engine_config(
            model=str(shape_directory(options.shape, Path(folder))),
            device="cpu",
            load_format="dummy",
            max_model_len=options.context + 4096,
            enable_prefix_caching=False,
            quantization=options.quantization,
        )
        engine = InProcessEngine(config, progress=False)
    weights = torch.ones(engine.model_info.weight_bytes // 8, dtype=torch.int64)
    params = SamplingParams(temperature=0.0, ignore_eos=True)
    for batch in options.batch:
        for _ in range(batch):
            add(engine, options.context, 2000, params)
        for _ in range(20):
            engine.step()
        steps, rest = [], []
        calls.count = 0
        for _ in range(options.steps):
            calls.seconds = 0.0
            began = time.perf_counter()
            engine.step()
            steps.append(time.perf_counter() - began)
            rest.append(steps[-1] - calls.seconds)
        median, beside = statistics.median(steps) * 1e3, statistics.median(rest) * 1e6
        print(
            f"batch {batch}: step {median:.2f} ms in {calls.count / options.steps:.0f} calls; "
            f"beside them {beside:.0f} us, at least {min(rest) * 1e6:.0f}"
        )
        turns = [(seconds(engine.step), seconds(weights.sum)) for _ in range(options.steps // 2)]
        step, read = (min(each) * 1e3 for each in zip(*turns))
        print(f"  at best {step:.2f} ms; a read of {weights.nbytes / 1e9:.2f} GB {read:.2f}")
        stop(engine)


if __name__ == "__main__":
    main()
