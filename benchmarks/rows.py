"""Tables of figures: a process measures a group of rows, and each is printed as it comes.

The process prints a line of JSON for each row done (`say`). Every row has a time limit of its
own, so that one which hangs or fails costs itself and no other.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from offline import SHAPES, shape_directory

START_SECONDS = 90  # for a process to load its model, beside its first row's own time


@dataclass(frozen=True)
class Row:
    """A line of the tables; figures in `unit`, more is better unless it is a time."""

    group: str
    work: str
    unit: str
    seconds: int  # it may take
    peers: tuple[float | None, ...] = ()  # what others reach, in the heading's order
    limit: float | None = None
    bar: float | None = None

    @property
    def name(self) -> str:
        return f"{self.group}/{self.work}"

    def better(self, ours: float, other: float) -> float:
        """How many times better ours is."""
        return other / ours if self.unit in ("ms", "s") else ours / other


Report = Callable[[Row, float | None, str], None]  # a row's figure, or None and why not


def end_children_when_terminated() -> None:
    """As on Ctrl-C: whatever ends this ends its children, which would keep the device."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


class Sitting:
    """Runs rows in processes and reports what they give, each as soon as it is there.

    Args:
        command: of the process, but for the names of the rows.
    """

    def __init__(self, command: Sequence[str | Path], report: Report) -> None:
        self._command, self._report = command, report

    def run(self, rows: Sequence[Row]) -> None:
        """A process for the rows of a group; after a row that fails, another for the rest."""
        left = list(rows)
        while left:
            asked = len(left)
            why, hung = self._run(left)
            if not left:
                return
            # A process that ends before its first row would do so again.
            failed = left if len(left) == asked and not hung else left[:1]
            for row in failed:
                self._report(row, None, why)
            left = left[len(failed) :]

    def _run(self, left: list[Row]) -> tuple[str, bool]:
        """Take rows off `left` as their figures come; says why no more did, and whether the
        process hung."""
        command = [*self._command, *(row.work for row in left)]
        with tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
            )
            lines: queue.Queue[str | None] = queue.Queue()
            threading.Thread(target=_read, args=(process, lines), daemon=True).start()
            allowed = START_SECONDS
            hung = False
            try:
                while left:
                    line = lines.get(timeout=allowed + left[0].seconds)
                    if line is None:
                        break
                    allowed = 0
                    self._take(json.loads(line), left)
            except queue.Empty:
                hung = True
            finally:
                with contextlib.suppress(ProcessLookupError):  # its server, too
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            if hung:
                return "took too long", True
            errors.seek(0)
            said = [line for line in errors.read().splitlines() if line.strip()]
            return f"failed: {said[-1][:120] if said else process.returncode}", False

    def _take(self, answer: dict[str, Any], left: list[Row]) -> None:
        for row in left:
            if row.work == answer["row"]:
                left.remove(row)
                self._report(row, answer["value"], "")
                return


def print_heading(peers: Sequence[str]) -> None:
    print(f"{'row':34s} {'ours':>9s} {'':6s}", *(f"{peer:>9s}" for peer in peers), end="")
    print(f" {'ahead':>6s} {'limit':>8s} {'':4s} {'bar':>8s}", flush=True)


def print_row(row: Row, ours: float | None, why: str) -> None:
    line = f"{row.name:34s} {figure(ours):>9s} {row.unit:6s}"
    for peer in row.peers:
        line += f" {figure(peer):>9s}"
    if ours is None:
        print(f"{line}  {why}", flush=True)
        return
    ahead = [row.better(ours, peer) for peer in row.peers if peer is not None]
    line += f" {figure(min(ahead, default=None)):>6s} {figure(row.limit):>8s} "
    line += f"{1 / row.better(row.limit, ours):4.0%}" if row.limit else "   -"
    met = "" if row.bar is None else "met" if row.better(ours, row.bar) >= 1 else "short"
    print(f"{line} {figure(row.bar):>8s} {met} {why}".rstrip(), flush=True)


def figure(value: float | None) -> str:
    """Three or four digits of it."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 100 else f"{value:.2f}"


def _read(process: "subprocess.Popen[str]", lines: "queue.Queue[str | None]") -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{"):
            lines.put(line)
    lines.put(None)


def make_models(folder: Path, shapes: set[str]) -> None:
    """A config and a tokenizer of one word a token, for each shape."""
    for shape in shapes:
        config = SHAPES[shape]
        directory = folder / shape
        directory.mkdir()
        shape_directory(shape, directory)
        vocab = {f"t{number}": number for number in range(config["vocab_size"])}
        tokenizer = Tokenizer(WordLevel(vocab, unk_token="t0"))
        tokenizer.pre_tokenizer = WhitespaceSplit()
        tokenizer.add_special_tokens(["t0", "t1", "t2"])  # as files of real models have them
        tokenizer.save(str(directory / "tokenizer.json"))
        special = {"bos_token": "t1", "eos_token": "t2", "unk_token": "t0"}
        special["tokenizer_class"] = "PreTrainedTokenizerFast"
        (directory / "tokenizer_config.json").write_text(json.dumps(special))
