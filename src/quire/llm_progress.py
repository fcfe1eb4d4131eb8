"""The progress of a batch: prompts done, and tokens a second in and out.

On a terminal a bar on standard error; elsewhere nothing, so that pipes and logs stay clean. A
callable with tqdm's interface (as vLLM takes) may stand in for the bar.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

# True: a bar if standard error is a terminal. Or a factory taking tqdm's keywords.
ProgressChoice = bool | Callable[..., Any]


class BatchProgress:
    """Counts a batch's prompts and tokens and shows the rates."""

    def __init__(self, choice: ProgressChoice, total: int) -> None:
        if not callable(choice):
            choice = tqdm if choice and total and sys.stderr.isatty() else False
        self._bar = (
            choice(total=total, desc="Processed prompts", dynamic_ncols=True, postfix="")
            if callable(choice)
            else None
        )
        self._began = time.monotonic()
        self._input = self._output = 0

    def finished(self, num_prompt_tokens: int, num_output_tokens: int) -> None:
        self._input += num_prompt_tokens
        self._output += num_output_tokens
        if self._bar is not None:
            seconds = max(time.monotonic() - self._began, 1e-9)
            self._bar.postfix = (  # in vLLM's words
                f"est. speed input: {self._input / seconds:.2f} toks/s,"
                f" output: {self._output / seconds:.2f} toks/s"
            )
            self._bar.update(1)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()
