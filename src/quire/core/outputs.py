"""What a user gets back. Field names are vLLM's."""

from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

T = TypeVar("T")

FinishReason = Literal["stop", "length", "abort", "error", "repetition"]


@dataclass(slots=True)
class Logprob:
    """One token's log-probability at one position; rank 1 is the most likely."""

    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


# One dict per position: token id -> Logprob. A prompt's first position has none.
SampleLogprobs = list[dict[int, Logprob]]
PromptLogprobs = list[dict[int, Logprob] | None]


@dataclass(slots=True)
class CompletionOutput:
    """One sequence of a request.

    `stop_reason` is the stop string or stop token id that ended it, None for the model's own
    end of sequence, "repetition_detected" with `finish_reason == "repetition"`.
    `finish_reason == "error"` carries its cause in `error`.
    """

    index: int
    text: str
    token_ids: list[int]
    cumulative_logprob: float | None = None
    logprobs: SampleLogprobs | None = None
    finish_reason: FinishReason | None = None
    stop_reason: int | str | None = None
    error: str | None = None

    def finished(self) -> bool:
        return self.finish_reason is not None


@dataclass(slots=True)
class RequestMetrics:
    """Times of one request in seconds of `time.monotonic()`."""

    arrival_time: float
    first_scheduled_time: float | None = None
    first_token_time: float | None = None
    last_token_time: float | None = None
    finished_time: float | None = None


@dataclass(slots=True)
class RequestOutput:
    """A request and its sequences, in the order of their index."""

    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    prompt_logprobs: PromptLogprobs | None
    outputs: list[CompletionOutput]
    finished: bool
    metrics: RequestMetrics | None = None
    num_cached_tokens: int | None = None
    lora_request: None = None


@dataclass(slots=True)
class BeamSearchSequence:
    """One beam: the whole token ids (prompt included) and its cumulative log-probability."""

    tokens: list[int]
    logprobs: list[dict[int, Logprob]]
    cum_logprob: float = 0.0
    text: str | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None


@dataclass(slots=True)
class BeamSearchOutput:
    """The best beams, best first."""

    sequences: list[BeamSearchSequence] = field(default_factory=list)


# --- of prompts turned into vectors ---


@dataclass(slots=True)
class PoolingOutput:
    """`data`: the vector as a torch tensor [E] float32, on the CPU."""

    data: Any


@dataclass(slots=True)
class EmbeddingOutput:
    """One prompt's vector."""

    embedding: list[float]

    @property
    def hidden_size(self) -> int:
        return len(self.embedding)


@dataclass(slots=True)
class ScoringOutput:
    """How alike two texts are: the cosine of the angle between their vectors, in [-1, 1]."""

    score: float


@dataclass(slots=True)
class _PooledRequest(Generic[T]):
    request_id: str
    outputs: T
    prompt_token_ids: list[int]
    num_cached_tokens: int = 0
    finished: bool = True


@dataclass(slots=True)
class PoolingRequestOutput(_PooledRequest[PoolingOutput]):
    """`LLM.encode`'s answer for one prompt."""


@dataclass(slots=True)
class EmbeddingRequestOutput(_PooledRequest[EmbeddingOutput]):
    """`LLM.embed`'s answer for one prompt."""


@dataclass(slots=True)
class ScoringRequestOutput(_PooledRequest[ScoringOutput]):
    """`LLM.score`'s answer for one pair; `prompt_token_ids` holds those of both texts."""
