"""What a user gets back for prompts turned into vectors. Class and field names are vLLM's."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


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
