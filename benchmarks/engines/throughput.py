"""What an engine does in bulk: times of a decode step, rates of prompts and of outputs.

Takes any engine with the `LLM` and `SamplingParams` of vLLM, by the name of its module, and needs
nothing else, so that it runs where another engine is installed and this one is not.
"""

import importlib
import json
import random
import subprocess
import time
from collections.abc import Sequence
from typing import Any

CONTEXT, STEPS = 128, 32  # of decode rows on a CPU

Lengths = Sequence[tuple[int, int]]  # (prompt tokens, output tokens) of each request

# A program: the engine's module, the model, engine options as JSON.
FIRST_TOKEN = """
import importlib, json, sys
if __name__ == "__main__":
    engine = importlib.import_module(sys.argv[1])
    llm = engine.LLM(sys.argv[2], load_format="dummy", **json.loads(sys.argv[3]))
    params = engine.SamplingParams(temperature=0, max_tokens=4, ignore_eos=True)
    llm.generate({"prompt_token_ids": list(range(10, 42))}, params, use_tqdm=False)
    print("first tokens", flush=True)
"""


def say(row: str, value: float) -> None:
    """A row's figure, to the process that asked for it."""
    print(json.dumps({"row": row, "value": value}), flush=True)


def until_line(command: list[str], prefix: str) -> tuple[float, str]:
    """Seconds from the process's start to its first line with `prefix`, and that line."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(prefix):
                seconds = time.perf_counter() - start
                process.stdout.read()  # let it end before the next one starts
                return seconds, line
    raise SystemExit(f"the process ended with {process.returncode} and printed no {prefix!r}")


class Engine:
    """An engine through the API its users have; greedy unless told, to the full length."""

    def __init__(self, module: str, model: str, **options: Any) -> None:
        engine = importlib.import_module(module)
        self.name = module
        self._params = engine.SamplingParams
        self._llm = engine.LLM(
            model=model, skip_tokenizer_init=True, enable_prefix_caching=False, **options
        )

    def run(self, prompts: list[list[int]], outputs: list[int], temperature: float = 0.0) -> float:
        """Seconds until every request has all its tokens."""
        params = [
            self._params(temperature=temperature, max_tokens=n, ignore_eos=True, detokenize=False)
            for n in outputs
        ]
        start = time.perf_counter()
        results = self._llm.generate(
            [{"prompt_token_ids": ids} for ids in prompts], params, use_tqdm=False
        )
        seconds = time.perf_counter() - start
        got = [len(result.outputs[0].token_ids) for result in results]
        if got != outputs:
            raise SystemExit(f"asked for {outputs} tokens, got {got}")
        return seconds


class Throughput:
    """An engine on random prompts."""

    def __init__(self, engine: Engine, vocab: int) -> None:
        self._engine, self._vocab = engine, vocab
        self._random = random.Random(0)

    def step(self, batch: int, context: int, steps: int) -> float:
        """Seconds a decode step: a long run less a short one, which is all prefill; the better of
        two, in turn: what the first short run lacks, a graph of its prompts say, the next has."""
        runs = [
            [self.seconds([(context, outputs)] * batch) for outputs in (1, steps + 1)]
            for _ in range(2)
        ]
        short, long = map(min, zip(*runs, strict=True))
        return (long - short) / steps

    def prefill(self, prompts: int, length: int) -> float:
        """Prompt tokens a second."""
        return prompts * length / min(self.seconds([(length, 1)] * prompts) for _ in range(2))

    def outputs(self, lengths: Lengths, tries: int, temperature: float = 0.0) -> float:
        """Output tokens a second."""
        seconds = min(self.seconds(lengths, temperature) for _ in range(tries))
        return sum(output for _, output in lengths) / seconds

    def seconds(self, lengths: Lengths, temperature: float = 0.0) -> float:
        prompts = [
            [self._random.randrange(10, self._vocab - 10) for _ in range(prompt)]
            for prompt, _ in lengths
        ]
        return self._engine.run(prompts, [output for _, output in lengths], temperature)
