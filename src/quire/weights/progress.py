"""Progress of loading: a bar with bytes and rate on a terminal, one log line elsewhere."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

logger = logging.getLogger("quire")

# True shows a bar, or logs one line where stderr is no terminal; False shows nothing; a function
# is called with (bytes done, bytes in all).
ProgressOption = bool | Callable[[int, int], None]


@contextmanager
def loading_progress(option: ProgressOption, total: int) -> Iterator[Callable[[int], None]]:
    """Gives the function to call, from any thread, with the bytes of each piece that is done."""
    done, began, lock = 0, time.perf_counter(), threading.Lock()
    shown = option is True and sys.stderr.isatty()
    with tqdm(
        desc="loading weights",
        total=total,
        unit="B",
        unit_scale=True,
        leave=False,
        disable=not shown,
    ) as bar:

        def report(count: int) -> None:
            nonlocal done
            with lock:
                done += count
                bar.update(count)
                if callable(option):
                    option(min(done, total), total)

        yield report
    if option is True:
        logger.info(loaded_line(done, time.perf_counter() - began))


def loaded_line(count: int, seconds: float) -> str:
    """`loaded 2.5 GB in 1.2 s, 2.1 GB/s`."""
    rate = count / max(seconds, 1e-9)
    return f"loaded {_size(count)} in {seconds:.1f} s, {_size(rate)}/s"


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
