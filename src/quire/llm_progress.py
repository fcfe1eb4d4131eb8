"""The progress of a batch: prompts done, and tokens a second in and out.

On a terminal a bar on standard error; elsewhere nothing, so that pipes and logs stay clean. A
callable with tqdm's interface (as vLLM takes) may stand in for the bar.
"""

import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

_DESCRIPTION = "Processed prompts"
_REFRESH_SECONDS = 0.1

# True: a bar if standard error is a terminal. Or a factory taking tqdm's keywords.
ProgressChoice = bool | Callable[..., Any]


class Bar(Protocol):
    """The part of tqdm's interface that is used."""

    postfix: Any

    def update(self, n: int) -> object:
        """`n` more prompts are done."""

    def close(self) -> None:
        """Nothing comes any more."""


class BatchProgress:
    """Counts a batch's prompts and tokens and shows the rates."""

    def __init__(self, choice: ProgressChoice, total: int) -> None:
        self._bar = _make_bar(choice, total)
        self._began = time.monotonic()
        self._input = self._output = 0

    def finished(self, num_prompt_tokens: int, num_output_tokens: int) -> None:
        """One more prompt is done."""
        self._input += num_prompt_tokens
        self._output += num_output_tokens
        if self._bar is not None:
            self._bar.postfix = self.rates()
            self._bar.update(1)

    def rates(self) -> str:
        """Tokens a second so far, in vLLM's words."""
        seconds = max(time.monotonic() - self._began, 1e-9)
        return (
            f"est. speed input: {self._input / seconds:.2f} toks/s,"
            f" output: {self._output / seconds:.2f} toks/s"
        )

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()


def _make_bar(choice: ProgressChoice, total: int) -> Bar | None:
    if callable(choice):
        bar: Bar = choice(total=total, desc=_DESCRIPTION, dynamic_ncols=True, postfix="")
        return bar
    if choice and total and sys.stderr.isatty():
        return _RichBar(total)
    return None


class _RichBar:
    """A bar drawn by `rich` on standard error."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self.postfix: Any = ""
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[postfix]}"),
            console=Console(stderr=True),
            refresh_per_second=1 / _REFRESH_SECONDS,
        )
        self._task = self._progress.add_task(_DESCRIPTION, total=total, postfix="")
        self._progress.start()

    def update(self, n: int) -> None:
        self._progress.update(self._task, advance=n, postfix=self.postfix)

    def close(self) -> None:
        self._progress.stop()
