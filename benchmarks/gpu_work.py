"""The work behind `gpu.py`: a process a group of rows, one line of JSON for each row done.

    python benchmarks/gpu_work.py "llama-8b fp8" FOLDER gpu "decode 1" "decode 8"

Knows nothing of what a figure is compared with. FOLDER holds a folder for each shape, with a
config and a tokenizer; the weights are random. At size `tiny` lengths and counts are divided by
16 and every shape is the tiny one: that runs on a CPU, to find out that all of it works.
"""

import argparse
import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import load
from engines.throughput import FIRST_TOKEN, Engine, Lengths, Throughput, say, until_line
from offline import SHAPES

MAX_LEN = 8192
QUIRE = [sys.executable, "-c", "from quire.cli.main import main; main()"]


class Target:
    """A model at a size, and the engine options that both decide."""

    def __init__(self, shape: str, folder: Path, size: str) -> None:
        self.divisor = 16 if size == "tiny" else 1
        self.shape = "tiny" if size == "tiny" else shape
        self.model = str(folder / self.shape)
        self.vocab = SHAPES[self.shape]["vocab_size"]
        self.options = {"dtype": "bfloat16", "device": "cpu" if size == "tiny" else "cuda"}

    def few(self, number: int) -> int:
        """`number` at full size."""
        return max(1, number // self.divisor)


class Offline:
    """Throughput of `LLM.generate`, prefix caching off."""

    def __init__(self, target: Target, quantization: str | None) -> None:
        self._few = target.few
        engine = Engine(
            "quire",
            target.model,
            load_format="dummy",
            max_model_len=MAX_LEN,
            quantization=quantization,
            **target.options,
        )
        self._through = Throughput(engine, target.vocab)
        self._through.seconds(self._fewer([(1024, 16)] * 64))

    def works(self) -> dict[str, Callable[[], float]]:
        """By name of the row."""
        draw = random.Random(0)
        mixed = [(draw.randint(100, 1024), draw.randint(100, 1024)) for _ in range(256)]
        return {
            **{f"decode {batch}": partial(self.decode, batch) for batch in (1, 8, 32, 128, 256)},
            "prefill 64 x 2048": partial(self.prefill, 64, 2048),
            "prefill 8 x 8000": partial(self.prefill, 8, 8000),
            "mixed": partial(self.outputs, mixed, 2),
            "mixed T=0.8": partial(self.outputs, mixed, 1, 0.8),
            "1000 x 512+256": partial(self.outputs, [(512, 256)] * 1000, 1),
        }

    def decode(self, batch: int) -> float:
        """Milliseconds a step."""
        few = self._few
        return self._through.step(few(batch), few(1024), few(128)) * 1e3

    def prefill(self, prompts: int, length: int) -> float:
        """Prompt tokens a second."""
        return self._through.prefill(self._few(prompts), self._few(length))

    def outputs(self, lengths: Lengths, tries: int, temperature: float = 0.0) -> float:
        """Output tokens a second."""
        return self._through.outputs(self._fewer(lengths), tries, temperature)

    def _fewer(self, lengths: Lengths) -> Lengths:
        few = self._few
        return [(few(prompt), few(output)) for prompt, output in lengths[: few(len(lengths))]]


class Served:
    """A server, from its start with empty caches on, under load."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def run(self, names: list[str]) -> None:
        with _no_compiled_kernels(), self._server() as (port, ready_after):
            if "to /health" in names:
                say("to /health", ready_after)
            few = self._target.few
            # Kernels, graphs, with prompts of their own: those below are fresh.
            self._measure(port, few(160), 32, seed=1)
            self._measure(port, few(1000), seed=1)
            for rate in (4, 16, 32):
                if any(name.startswith(f"{rate}/s ") for name in names):
                    seconds = 2 if self._target.divisor > 1 else 10
                    measured = self._measure(port, rate * seconds, rate)
                    say(f"{rate}/s first token", measured.first_p50)
                    say(f"{rate}/s per token", measured.per_token)
            for name in ("1000 at once", "1000 again"):
                if name in names:
                    say(name, self._measure(port, few(1000)).output_rate)
            for name in ("400 of one prefix", "400 again"):
                if name in names:
                    say(name, self._measure(port, few(400), shared_prefix=2048).output_rate)

    def _measure(
        self, port: int, requests: int, rate: float = 0.0, shared_prefix: int = 0, seed: int = 0
    ) -> load.Measured:
        few = self._target.few
        what = load.Load(requests, rate, few(220), few(200), shared_prefix and few(shared_prefix))
        return load.measure("127.0.0.1", port, self._target.model, self._target.vocab, what, seed)

    @contextlib.contextmanager
    def _server(self) -> Iterator[tuple[int, float]]:
        """Its port, and the seconds from its process's start until /health said yes."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        options = [f"--{name}={value}" for name, value in self._target.options.items()]
        command = [
            *QUIRE, "serve", self._target.model, "--load-format=dummy", *options,
            f"--max-model-len={MAX_LEN}", "--host=127.0.0.1", f"--port={port}",
        ]  # fmt: skip
        with tempfile.TemporaryFile("w+") as printed:
            started = time.perf_counter()
            server = subprocess.Popen(command, stdout=printed, stderr=printed)
            try:
                while not _healthy(port):
                    if server.poll() is not None:
                        printed.seek(0)
                        raise RuntimeError(f"no server: {printed.read().splitlines()[-1:]}")
                    time.sleep(0.02)
                yield port, time.perf_counter() - started
            finally:
                server.terminate()
                server.wait(20)


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def start(target: Target, names: list[str]) -> None:
    """Process start to first tokens, with no kernel compiled before and with all."""
    options = json.dumps({"max_model_len": MAX_LEN, **target.options})
    command = [sys.executable, "-c", FIRST_TOKEN, "quire", target.model, options]
    with _no_compiled_kernels():
        for name in ("cold", "warm"):
            seconds, _ = until_line(command, "first tokens")
            if name in names:
                say(name, seconds)
            if name == names[-1]:
                return


@contextlib.contextmanager
def _no_compiled_kernels() -> Iterator[None]:
    """A cache of kernels that is empty and goes away."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRITON_CACHE_DIR"] = folder
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("group")
    parser.add_argument("folder", type=Path)
    parser.add_argument("size", choices=["gpu", "tiny"])
    parser.add_argument("rows", nargs="+")
    given = parser.parse_args()
    shape, _, kind = given.group.partition(" ")
    target = Target(shape, given.folder, given.size)
    if kind == "served":
        Served(target).run(given.rows)
    elif kind == "start":
        start(target, given.rows)
    else:
        works = Offline(target, kind or None).works()
        for row in given.rows:
            say(row, works[row]())


if __name__ == "__main__":
    main()
