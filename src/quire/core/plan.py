"""The step plan, and what comes back: the contract between scheduler and runner.

Everything is a delta. The runner keeps per-sequence state in fixed rows, so a steady decode
step carries three short integer lists and the few page ids that were newly assigned. Plans
are executed strictly in order; a row or page released in plan k may be reused in plan k + 1
while k is still running, because the device runs them in that order too. Within a plan,
`released` is dealt with before `starts`, and a layer writes the keys and values of all rows
before any row attends, so that a row can share a page which another fills in the same step.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from quire.core.pooling_params import PoolingParams
from quire.core.sampling_params import SamplingParams

if TYPE_CHECKING:  # the front end imports this file, and needs no arrays
    import numpy as np


@dataclass(frozen=True, slots=True)
class RowStart:
    """A sequence (new, or resumed after preemption) takes a row."""

    row: int
    token_ids: Sequence[int]  # all known tokens: the prompt, then what was generated before
    num_prompt_tokens: int
    params: SamplingParams
    seed: int  # 64 bits; resolved from params.seed, the engine seed and the sequence's index
    stop_token_ids: tuple[int, ...]  # end-of-sequence and stop tokens, masked until min_tokens
    bad_words_ids: tuple[tuple[int, ...], ...] = ()
    pooling: PoolingParams | None = None  # the row never samples: its prompt becomes a vector


@dataclass(frozen=True, slots=True)
class PageDelta:
    """Page ids newly assigned to a row: columns [column, column + len(page_ids))."""

    group: int
    row: int
    column: int
    page_ids: Sequence[int]


@dataclass(slots=True)
class StepPlan:
    """One step. Index i of the parallel lists is the i-th sequence of the step.

    Sequence i computes the tokens at positions
    [num_computed[i], num_computed[i] + query_lens[i]) of its row. Its newest input token may
    still be on the device only (sampled by the previous plan). If `samples[i]`, the logits of
    its last computed token give the token at position num_computed[i] + query_lens[i].
    """

    step: int
    starts: list[RowStart] = field(default_factory=list)
    pages: list[PageDelta] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    query_lens: list[int] = field(default_factory=list)
    num_computed: list[int] = field(default_factory=list)
    samples: list[bool] = field(default_factory=list)
    # i -> the tokens that sequence i may sample, for those with a grammar: [ceil(V / 32)] int32,
    # token t is bit t % 32 of word t // 32. Never changed once handed over.
    masks: dict[int, "np.ndarray"] = field(default_factory=dict)
    released: list[int] = field(default_factory=list)  # rows given up since the previous plan

    @property
    def num_tokens(self) -> int:
        """T, the tokens computed in this step."""
        return sum(self.query_lens)


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Log-probabilities at one position: the token itself first, then the top ones, best first.

    `rank` is the token's own rank, 1 for the most likely.
    """

    token_ids: list[int]
    logprobs: list[float]
    rank: int


@dataclass(slots=True)
class StepResult:
    """What a step produced. The lists run over the plan's sequences.

    `token_ids[i]` is empty where nothing was sampled. `failed[i]` says why where the logits
    were not a number: no token is valid and the sequence must end with an error.
    """

    token_ids: list[list[int]]
    failed: dict[int, str] = field(default_factory=dict)
    logprobs: dict[int, list[TokenLogprobs]] = field(default_factory=dict)
    # sequence index -> one entry per prompt token computed in this step whose successor is
    # also a prompt token: the log-probabilities of that successor.
    prompt_logprobs: dict[int, list[TokenLogprobs]] = field(default_factory=dict)
    # sequence index -> the vector of a row that pools, in the step that completes its prompt.
    pooled: dict[int, list[float]] = field(default_factory=dict)
