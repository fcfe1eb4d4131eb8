"""Progress of loading: a bar with bytes and rate on a terminal, one log line elsewhere."""

import logging
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)
from rich.progress import (
    Progress as RichProgress,
)

logger = logging.getLogger("quire")


class Progress(AbstractContextManager["Progress"]):
    """Counts bytes, from any thread, and shows them.

    Args:
        total: bytes in all.
        show: called with (bytes done, total) after each piece, by the thread that finished it.
        log: log one line at the end.
    """

    def __init__(
        self, total: int, show: Callable[[int, int], None] | None = None, *, log: bool = False
    ) -> None:
        self._total, self._show, self._log = total, show, log
        self._done = 0
        self._lock = threading.Lock()
        self._began = time.perf_counter()

    def __call__(self, count: int) -> None:
        """`count` more bytes are done."""
        with self._lock:
            self._done += count
            if self._show is not None:
                self._show(min(self._done, self._total), self._total)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None and self._log:
            logger.info(loaded_line(self._done, time.perf_counter() - self._began))


class _Bar(Progress):
    """A `Progress` drawn as a bar on standard error."""

    def __init__(self, total: int) -> None:
        self._rich = RichProgress(
            TextColumn("loading weights"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        task = self._rich.add_task("load", total=total)
        super().__init__(total, lambda done, _: self._rich.update(task, completed=done), log=True)
        self._stack = ExitStack()

    def __enter__(self) -> "_Bar":
        self._stack.enter_context(self._rich)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
        super().__exit__(kind, error, trace)


def make_progress(option: bool | Callable[[int, int], None], total: int) -> Progress:
    """What `option` asks for: True a bar or a log line, False nothing, a function is called."""
    if option is False:
        return Progress(total)
    if option is True:
        return _Bar(total) if sys.stderr.isatty() else Progress(total, log=True)
    return Progress(total, option)


def loaded_line(count: int, seconds: float) -> str:
    """`loaded 2.5 GB in 1.2 s, 2.1 GB/s`."""
    rate = count / max(seconds, 1e-9)
    return f"loaded {_size(count)} in {seconds:.1f} s, {_size(rate)}/s"


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
