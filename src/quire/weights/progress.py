"""Progress of loading: a bar with bytes and rate on a terminal, one log line elsewhere."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from rich import progress as rich
from rich.console import Console

logger = logging.getLogger("quire")

# True shows a bar, or logs one line where stderr is no terminal; False shows nothing; a function
# is called with (bytes done, bytes in all).
ProgressOption = bool | Callable[[int, int], None]


@contextmanager
def loading_progress(option: ProgressOption, total: int) -> Iterator[Callable[[int], None]]:
    """Gives the function to call, from any thread, with the bytes of each piece that is done."""
    done, began, lock = 0, time.perf_counter(), threading.Lock()
    shown = nullcontext(option if callable(option) else None)
    with _bar(total) if option is True and sys.stderr.isatty() else shown as show:

        def report(count: int) -> None:
            nonlocal done
            with lock:
                done += count
                if show is not None:
                    show(min(done, total), total)

        yield report
    if option is True:
        logger.info(loaded_line(done, time.perf_counter() - began))


@contextmanager
def _bar(total: int) -> Iterator[Callable[[int, int], None]]:
    with rich.Progress(
        rich.TextColumn("loading weights"),
        rich.BarColumn(),
        rich.DownloadColumn(),
        rich.TransferSpeedColumn(),
        rich.TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task("load", total=total)
        yield lambda done, _: bar.update(task, completed=done)


def loaded_line(count: int, seconds: float) -> str:
    """`loaded 2.5 GB in 1.2 s, 2.1 GB/s`."""
    rate = count / max(seconds, 1e-9)
    return f"loaded {_size(count)} in {seconds:.1f} s, {_size(rate)}/s"


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
