"""Throughput of the offline API on this machine, beside transformers in the same run.

    python benchmarks/offline.py --shape llama-1b              # random weights in that shape
    python benchmarks/offline.py --model PATH_OR_ID            # a real checkpoint
    python benchmarks/offline.py --shape tiny --only decode --peer none

Workloads: `decode` (milliseconds for a token of each sequence, from the difference of a long
and a short run, so that prefill drops out), `prefill` (prompt tokens a second) and `mixed`
(random lengths; output tokens a second). Greedy, to the full length, prefix caching off.
Absolute times drift between hours; each workload measures Quire and the peer one after the
other, and the ratio is what to quote. transformers batches statically: a batch is padded to its
longest prompt and runs to its longest output.
"""

import argparse
import gc
import json
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from engines.throughput import Engine, Lengths
from machine import machine_line
from quire.platform.detect import detect

# The shapes of public models; the weights are random.
SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": 4096,
        "hidden_size": 256,
        "intermediate_size": 768,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "max_position_embeddings": 8192,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
    },
    "llama-1b": {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": 128256,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "max_position_embeddings": 131072,
        "rope_theta": 500000.0,
        "tie_word_embeddings": True,
    },
    "llama-8b": {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": 128256,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 131072,
        "rope_theta": 500000.0,
        "tie_word_embeddings": False,
    },
    "qwen3-0.6b": {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": 151936,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 40960,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": True,
    },
}


@dataclass(frozen=True)
class Size:
    """How much work: batch sizes, prompt lengths and so on, by device."""

    context: int
    steps: int
    batches: tuple[int, ...]
    prefills: tuple[tuple[int, int], ...]  # (prompt tokens, prompts)
    mixed: tuple[int, int, int]  # shortest, longest, requests


SIZES = {
    "cpu": Size(128, 32, (1, 4, 16), ((512, 2), (2048, 1)), (16, 128, 32)),
    "gpu": Size(1024, 128, (1, 8, 32, 128, 256), ((2048, 64), (8000, 8)), (100, 1024, 256)),
}


class Measured(Protocol):
    """What is measured: one batch of requests of given lengths."""

    name: str

    def run(self, prompts: list[list[int]], outputs: list[int]) -> float:
        """Seconds until every request has all its tokens."""
        ...


class Transformers:
    """The peer: `model.generate` on the whole batch."""

    name = "transformers"

    def __init__(self, model: str, dummy: bool, options: argparse.Namespace) -> None:
        self._device = detect(options.device).torch_device
        dtype = getattr(torch, options.dtype)
        if dummy:
            config = AutoConfig.from_pretrained(model)
            loaded = AutoModelForCausalLM.from_config(config, dtype=dtype)
        else:
            loaded = AutoModelForCausalLM.from_pretrained(model, dtype=dtype)
        self._model = loaded.to(self._device).eval()

    def run(self, prompts: list[list[int]], outputs: list[int]) -> float:
        width, steps = max(map(len, prompts)), max(outputs)
        padded = [[0] * (width - len(ids)) + ids for ids in prompts]
        mask = [[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts]
        start = time.perf_counter()
        with torch.inference_mode():
            self._model.generate(
                input_ids=torch.tensor(padded, device=self._device),
                attention_mask=torch.tensor(mask, device=self._device),
                do_sample=False,
                max_new_tokens=steps,
                min_new_tokens=steps,
                pad_token_id=0,
            ).cpu()
        return time.perf_counter() - start


class Bench:
    """Runs a workload on every engine in turn and prints a line for each."""

    def __init__(
        self, engines: Sequence[Measured], vocab_size: int, size: Size, tries: int
    ) -> None:
        self._engines, self._vocab, self._size, self._tries = engines, vocab_size, size, tries
        self._random = random.Random(0)

    def decode(self) -> None:
        context, steps = self._size.context, self._size.steps
        for batch in self._size.batches:
            seconds = [
                min(
                    self._timed(engine, [(context, steps + 1)] * batch)
                    - self._timed(engine, [(context, 1)] * batch)
                    for _ in range(self._tries)
                )
                for engine in self._engines
            ]
            self._say(f"decode {batch} x {context}", [steps * batch / s for s in seconds], "tok/s")

    def prefill(self) -> None:
        for tokens, prompts in self._size.prefills:
            seconds = [self._best(engine, [(tokens, 1)] * prompts) for engine in self._engines]
            self._say(
                f"prefill {prompts} x {tokens}", [tokens * prompts / s for s in seconds], "tok/s"
            )

    def mixed(self) -> None:
        low, high, count = self._size.mixed
        draw = random.Random(0)
        lengths = [(draw.randint(low, high), draw.randint(low, high)) for _ in range(count)]
        total = sum(output for _, output in lengths)
        seconds = [self._best(engine, lengths) for engine in self._engines]
        self._say(f"mixed {count} x {low}-{high}", [total / s for s in seconds], "out tok/s")

    def warm(self) -> None:
        for engine in self._engines:
            self._timed(engine, [(32, 8)] * 4)

    def _best(self, engine: Measured, lengths: Lengths) -> float:
        return min(self._timed(engine, lengths) for _ in range(self._tries))

    def _timed(self, engine: Measured, lengths: Lengths) -> float:
        prompts = [
            [self._random.randrange(10, self._vocab - 10) for _ in range(prompt)]
            for prompt, _ in lengths
        ]
        gc.collect()
        return engine.run(prompts, [output for _, output in lengths])

    def _say(self, work: str, rates: list[float], unit: str) -> None:
        figures = "  ".join(
            f"{engine.name} {rate:10,.1f} {unit}" for engine, rate in zip(self._engines, rates)
        )
        ratio = f"  ratio {rates[0] / rates[1]:.2f}" if len(rates) > 1 else ""
        print(f"{work:24s} {figures}{ratio}", flush=True)


def shape_directory(shape: str, folder: Path, dtype: str = "bfloat16") -> Path:
    """`folder`, with the config of one of `SHAPES` in it and nothing else."""
    config = {**SHAPES[shape], "bos_token_id": 1, "eos_token_id": 2}
    config.update(rms_norm_eps=1e-5, hidden_act="silu", torch_dtype=dtype)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--shape", choices=sorted(SHAPES), default="tiny")
    which.add_argument("--model", help="directory or Hub id, instead of random weights")
    parser.add_argument("--size", choices=sorted(SIZES), help="default: the device's")
    parser.add_argument("--only", nargs="*", choices=["decode", "prefill", "mixed"])
    parser.add_argument("--peer", choices=["transformers", "none"], default="transformers")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16")
    parser.add_argument("--max-model-len", type=int, default=8192)
    parser.add_argument("--tries", type=int, default=2, help="the best of so many counts")
    options = parser.parse_args()
    print(machine_line(options.device))

    with tempfile.TemporaryDirectory() as folder:
        model = options.model or folder
        if not options.model:
            shape_directory(options.shape, Path(folder), options.dtype)
        print(f"model {options.model or options.shape}, {options.dtype}")
        engines: list[Measured] = [
            Engine(
                "quire",
                model,
                load_format="auto" if options.model else "dummy",
                dtype=options.dtype,
                device=options.device,
                max_model_len=options.max_model_len,
            )
        ]
        if options.peer == "transformers":
            engines.append(Transformers(model, not options.model, options))
        vocab_size = AutoConfig.from_pretrained(model).get_text_config().vocab_size
    kind = "gpu" if detect(options.device).kind == "cuda" else "cpu"
    bench = Bench(engines, vocab_size, SIZES[options.size or kind], options.tries)
    bench.warm()
    works = {"decode": bench.decode, "prefill": bench.prefill, "mixed": bench.mixed}
    for name in options.only or works:
        works[name]()


if __name__ == "__main__":
    main()
