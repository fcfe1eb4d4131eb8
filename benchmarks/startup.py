"""How long Quire takes to start: import, --help, and the first token of the model in the box.

    python benchmarks/startup.py [--runs 5] [--model MODEL] [--device cpu]

Every figure is the median (and range) over processes of their own, after one that warms the
disk cache. The first token's clock starts before the process and stops when its parent has
read the line the child prints, so nothing of the start is left out. Nobody's tests run this:
the bars are 0.15 s, 0.4 s and 4 s on two cores.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from engines.throughput import until_line
from machine import machine_line

IMPORT = """
import time
start = time.perf_counter()
import quire
print(time.perf_counter() - start)
"""

FIRST_TOKEN = """
import sys, time
start = time.perf_counter()
from quire import LLM, SamplingParams
imported = time.perf_counter()
llm = LLM(**({"model": sys.argv[1]} if sys.argv[1] else {}), device=sys.argv[2])
loaded = time.perf_counter()
prompt = {"prompt_token_ids": [1, 2, 3, 4, 5, 6, 7, 8]}
llm.generate(prompt, SamplingParams(max_tokens=1, temperature=0), use_tqdm=False)
print("first token", imported - start, loaded - imported, time.perf_counter() - loaded, flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--model", default="", help="default: the model in the box")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    print(machine_line(options.device))

    python = [sys.executable, "-c"]
    report("python itself, process", options.runs, lambda: wall([*python, "pass"]))
    report("import quire", options.runs, lambda: float(output([*python, IMPORT])))
    help_command = [*python, "from quire.cli.main import main; main()", "--help"]
    report("quire --help, process", options.runs, lambda: wall(help_command))

    parts: list[list[float]] = []

    def first_token() -> float:
        command = [*python, FIRST_TOKEN, options.model, options.device]
        seconds, line = until_line(command, "first token")
        parts.append([float(word) for word in line.split()[2:]])
        return seconds

    report("process start to first token", options.runs, first_token)
    for name, values in zip(("imports", "LLM()", "first generate()"), zip(*parts[1:])):
        print(f"    {name:28s} {statistics.median(values):7.3f} s")


def report(name: str, runs: int, measure: Callable[[], float]) -> None:
    """Print the median of `runs` measurements after one that does not count."""
    measure()
    seconds = [measure() for _ in range(runs)]
    spread = f"{min(seconds):.3f} to {max(seconds):.3f}, {runs} runs"
    print(f"{name:32s} {statistics.median(seconds):7.3f} s  ({spread})", flush=True)


def wall(command: list[str]) -> float:
    """Seconds from the process's start to its end."""
    start = time.perf_counter()
    output(command)
    return time.perf_counter() - start


def output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main()
