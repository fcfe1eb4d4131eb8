"""The work behind `cpu.py`: a process a group of rows, one line of JSON for each row done.

    python benchmarks/engines/cpu_work.py quire int4 FOLDER "decode 1" "prefill 512"

Knows nothing of what a figure is compared with, and runs any engine that has vLLM's API. It lies in
a folder of its own, or such an engine would import files beside it for packages of that name.
"""

import argparse
import json
import random
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from throughput import CONTEXT, FIRST_TOKEN, STEPS, Engine, Throughput, say, until_line

MAX_LEN = 2048


def works(engine: Engine, vocab: int) -> dict[str, Callable[[], float]]:
    """By name of the row, all in tokens a second."""
    through = Throughput(engine, vocab)
    through.seconds([(32, 8)] * 4)
    draw = random.Random(0)
    mixed = [(draw.randint(16, 128), draw.randint(16, 128)) for _ in range(32)]
    return {
        **{
            f"decode {batch}": lambda batch=batch: batch / through.step(batch, CONTEXT, STEPS)
            for batch in (1, 4, 16, 32)
        },
        "prefill 512": partial(through.prefill, 1, 512),
        "mixed 32": partial(through.outputs, mixed, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("module", help="the engine's")
    parser.add_argument("kind", choices=["bf16", "int8", "int4"])
    parser.add_argument("folder", type=Path, help="with a config and a tokenizer")
    parser.add_argument("rows", nargs="+")
    given = parser.parse_args()
    options: dict[str, object] = {"dtype": "bfloat16", "max_model_len": MAX_LEN}
    if given.kind != "bf16":
        options["quantization"] = given.kind
    rows = list(given.rows)
    if "start" in rows:
        command = [sys.executable, "-c", FIRST_TOKEN, given.module, str(given.folder)]
        seconds, _ = until_line([*command, json.dumps(options)], "first tokens")
        say("start", seconds)
        rows.remove("start")
    if rows:
        vocab = json.loads((given.folder / "config.json").read_text())["vocab_size"]
        engine = Engine(given.module, str(given.folder), load_format="dummy", **options)
        work = works(engine, vocab)
        for row in rows:
            say(row, work[row]())


if __name__ == "__main__":
    main()
