"""The user's own logits processors: Python callables, offline only, one sequence at a time.

They may do what they like with the device, waiting for it included. One that fails costs its
own request only.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from quire.core.sampling_params import LogitsProcessor

# row -> (prompt ids, output ids)
HostTokens = Callable[[int], tuple[list[int], list[int]]]


@dataclass(frozen=True, slots=True)
class Processor:
    """One callable, and whether it takes the prompt's ids first."""

    call: LogitsProcessor
    takes_prompt: bool

    def __call__(self, prompt_ids: list[int], output_ids: list[int], logits: Tensor) -> Tensor:
        if self.takes_prompt:
            result = self.call(prompt_ids, output_ids, logits)
        else:
            result = self.call(output_ids, logits)
        if not isinstance(result, Tensor) or result.shape != logits.shape:
            got = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
            raise ValueError(f"it must return logits of shape {tuple(logits.shape)}, got {got}")
        return result

    @property
    def name(self) -> str:
        return getattr(self.call, "__name__", type(self.call).__name__)


def processors_of(calls: Sequence[LogitsProcessor]) -> tuple[Processor, ...]:
    """Look at each callable's signature once: three arguments mean the prompt's ids come first."""
    return tuple(Processor(call, _num_arguments(call) >= 3) for call in calls)


def _num_arguments(call: LogitsProcessor) -> int:
    try:
        parameters = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):  # some builtins have no signature
        return 2
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in positional and p.default is p.empty for p in parameters)


def run_processors(
    logits: Tensor, line: int, row: int, processors: Sequence[Processor], host_tokens: HostTokens
) -> str | None:
    """Replace a line of logits [S, V] by what its processors make of it, one after the other.

    Returns:
        None, or why one failed; the line is then NaN, so that no token comes of it.
    """
    prompt_ids, output_ids = host_tokens(row)
    values = logits[line]
    for processor in processors:
        try:
            values = processor(prompt_ids, output_ids, values)
        # Any exception of code that is not ours must end this request and no other.
        except Exception as error:
            logits[line].fill_(float("nan"))
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            return f"logits processor {processor.name} failed: {reason}"
    if values.data_ptr() != logits[line].data_ptr():
        with torch.no_grad():
            logits[line].copy_(values)
    return None
