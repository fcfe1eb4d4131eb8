"""`PoolingParams`: how one prompt's hidden states become one vector. Imports no torch."""

from dataclasses import dataclass
from typing import Literal, get_args

from quire.core.errors import NotYetSupportedError
from quire.core.sampling_params import ANY, in_range, refuse

Pooling = Literal["last", "mean", "cls"]
PoolingTask = Literal["embed", "score"]

POOLINGS: tuple[str, ...] = get_args(Pooling)

# Task names of other engines for the one thing done here, a vector per prompt.
_EMBED = ("embed", "embedding", "encode", "score")
# What needs a head that a generating model does not have, or a vector per token.
_NOT_YET = ("classify", "token_embed", "token_classify", "reward", "plugin")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolingParams:
    """What a request for a vector wants.

    Args:
        pooling: which of the final hidden states (the final norm applied): of the "last" token,
            of the first ("cls"), or their "mean". None is the model's own choice.
        normalize: scale the vector to length 1.
        dimensions: keep only the first so many (Matryoshka); before normalising. None keeps all.
        task: what the vector is for; changes nothing in how it is computed.
        truncate_prompt_tokens: keep only the last k prompt tokens; -1 keeps `max_model_len`.

    Raises:
        RequestError: a value is out of its range; the message names both.
    """

    pooling: Pooling | None = None
    normalize: bool = True
    dimensions: int | None = None
    task: PoolingTask = "embed"
    truncate_prompt_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.pooling is not None and self.pooling not in POOLINGS:
            refuse("pooling", self.pooling, f"must be one of {', '.join(POOLINGS)}")
        if self.task not in get_args(PoolingTask):
            refuse("task", self.task, f"must be one of {', '.join(get_args(PoolingTask))}")
        if self.dimensions is not None:
            in_range("dimensions", self.dimensions, 1, ANY, integer=True)
        if self.truncate_prompt_tokens is not None:
            in_range("truncate_prompt_tokens", self.truncate_prompt_tokens, -1, ANY, integer=True)
        if self.truncate_prompt_tokens == 0:
            refuse("truncate_prompt_tokens", 0, "must be -1 or at least 1")

    @property
    def needs_every_token(self) -> bool:
        """Whether the hidden state of each prompt token must be computed: no prefix hit helps."""
        return self.pooling not in (None, "last")


def task_of(name: str) -> PoolingTask:
    """A task by any of its names.

    Raises:
        NotYetSupportedError: a known task that needs more than a vector per prompt.
        RequestError: not a task.
    """
    if name in _NOT_YET:
        raise NotYetSupportedError(f"the pooling task '{name}' is not supported yet; use 'embed'")
    if name not in _EMBED:
        refuse("pooling_task", name, "must be 'embed' or 'score'")
    return "score" if name == "score" else "embed"
