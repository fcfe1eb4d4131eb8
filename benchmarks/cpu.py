"""Every row of the CPU's tables: ours, vLLM's CPU build, llama.cpp, and the bar.

    python benchmarks/cpu.py                                    # all rows, ours alone
    python benchmarks/cpu.py --only "llama-1b bf16/*" --llama-cpp BUILD --vllm VENV/bin/python

With a folder that holds a build of llama.cpp (`bin/llama-batched-bench`, `bin/llama-quantize`; the
models need the `gguf` package) or an interpreter that imports vLLM, those run each group of rows
in turn with ours, and the best of `--turns` counts for each: on a machine that others use the
ratio, `ahead`, is what to quote. Weights are random; threads are those of OMP_NUM_THREADS, or one
for each core. bf16 is compared with BF16, int8 with Q8_0, int4 with Q4_0. Bars are absolute, for
two quiet cores of an EPYC (Zen 5) that read 44.7 GB/s.

Decode goes from a context of 128 and prompts are of 512 tokens; `mixed 32` are 32 requests of 16 to
128 tokens that make as many, together; all in tokens a second. `start` is from the process's start
to its first token.
"""

import argparse
import fnmatch
import itertools
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import llama_cpp
from machine import machine_line
from rows import Row, Sitting, end_children_when_terminated, make_models, print_heading, print_row

WORKS = ("start", "decode 1", "decode 4", "decode 16", "decode 32", "prefill 512", "mixed 32")


def _rows(group: str, bars: Sequence[float | None]) -> list[Row]:
    return [
        Row(group, work, "s" if work == "start" else "tok/s", 180, bar=bar)
        for work, bar in zip(WORKS, bars, strict=True)
    ]


ROWS = [
    *_rows("llama-1b bf16", (4, 18, 84, 200, 300, 440, 165)),
    *_rows("llama-1b int8", (None, 32, 110, 260, 400, 550, None)),
    *_rows("llama-1b int4", (None, 54, 170, 280, 380, 500, None)),
    *_rows("qwen3-0.6b bf16", (3, 36, None, None, 400, 700, None)),
    *_rows("qwen3-0.6b int8", (None,) * 7),
    *_rows("qwen3-0.6b int4", (None,) * 7),
]
MISSING = "mixed 32"  # from llama.cpp: its tools take requests of one length


class Contest:
    """Engines that run the same rows in turn, ours first."""

    def __init__(self, folder: Path, vllm: Path | None, build: Path | None, threads: int) -> None:
        self._folder, self._vllm, self._build, self._threads = folder, vllm, build, threads
        self.peers = [n for n, at in (("vLLM", vllm), ("llama.cpp", build)) if at is not None]

    def run(self, group: str, rows: list[Row], turns: int) -> None:
        shape, kind = group.split()
        best: dict[tuple[str, str], float] = {}
        reasons: dict[str, str] = {}
        for _ in range(turns):
            for name in ("ours", *self.peers):

                def keep(row: Row, value: float | None, why: str, name: str = name) -> None:
                    if value is None:
                        reasons[row.work] = f"{name} {why}"
                        return
                    before = best.get((name, row.work), value)
                    best[name, row.work] = value if row.better(value, before) > 1 else before

                wanted = [row for row in rows if self._has(name, kind, row)]
                if wanted:
                    Sitting(self._command(name, shape, kind), keep).run(wanted)
        for row in rows:
            peers = tuple(best.get((name, row.work)) for name in self.peers)
            print_row(
                replace(row, peers=peers), best.get(("ours", row.work)), reasons.get(row.work, "")
            )

    def _has(self, name: str, kind: str, row: Row) -> bool:
        if name == "vLLM":
            return kind == "bf16"
        return name == "ours" or row.work != MISSING

    def _command(self, name: str, shape: str, kind: str) -> list[str | Path]:
        here, folder = Path(__file__).parent, self._folder / shape
        if name == "llama.cpp":
            assert self._build is not None
            model = llama_cpp.make_model(self._build, folder, kind)
            script = here / "llama_cpp.py"
            return [sys.executable, script, self._build, model, str(self._threads)]
        if name == "vLLM":
            assert self._vllm is not None
            return [self._vllm, here / "engines" / "cpu_work.py", "vllm", kind, folder]
        return [sys.executable, here / "engines" / "cpu_work.py", "quire", kind, folder]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", default=["*"], help="names, with * and ?")
    parser.add_argument("--vllm", type=Path, help="an interpreter that imports vllm")
    parser.add_argument("--llama-cpp", type=Path, help="a folder with a build of llama.cpp")
    parser.add_argument("--turns", type=int, default=1)
    given = parser.parse_args()
    # vLLM's share of memory for keys and values, GiB: by itself it takes more than 24 GiB leave.
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
    end_children_when_terminated()
    chosen = [row for row in ROWS if any(fnmatch.fnmatch(row.name, one) for one in given.only)]
    threads = int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))
    print(f"{machine_line('cpu')}, {threads} threads")
    with tempfile.TemporaryDirectory() as folder:
        make_models(Path(folder), {row.group.split()[0] for row in chosen})
        contest = Contest(Path(folder), given.vllm, given.llama_cpp, threads)
        print_heading(contest.peers)
        for group, rows in itertools.groupby(chosen, key=lambda row: row.group):
            contest.run(group, list(rows), given.turns)


if __name__ == "__main__":
    main()
