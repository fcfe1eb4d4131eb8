"""Vectors for prompts, offline: what `LLM.embed`, `LLM.score` and `LLM.encode` make of finished
requests. Runs nothing itself.
"""

from collections.abc import Sequence

from quire.core.errors import QuireError, RequestError
from quire.core.outputs import (
    EmbeddingOutput,
    EmbeddingRequestOutput,
    PoolingOutput,
    PoolingRequestOutput,
    ScoringOutput,
    ScoringRequestOutput,
)
from quire.engine.frontend_prompt import PromptInput, one_or_many
from quire.engine.frontend_request import TrackedRequest


def embedding_output(request: TrackedRequest) -> EmbeddingRequestOutput:
    """A finished request's vector as a list."""
    return EmbeddingRequestOutput(
        request.request_id,
        EmbeddingOutput(_vector(request)),
        request.message.prompt_token_ids,
        request.num_cached_tokens or 0,
    )


def pooling_output(request: TrackedRequest) -> PoolingRequestOutput:
    """A finished request's vector as a tensor."""
    import torch

    return PoolingRequestOutput(
        request.request_id,
        PoolingOutput(torch.tensor(_vector(request), dtype=torch.float32)),
        request.message.prompt_token_ids,
        request.num_cached_tokens or 0,
    )


def scoring_output(
    first: EmbeddingRequestOutput, second: EmbeddingRequestOutput
) -> ScoringRequestOutput:
    """Cosine similarity of two texts whose vectors have length 1."""
    score = sum(a * b for a, b in zip(first.outputs.embedding, second.outputs.embedding))
    return ScoringRequestOutput(
        f"{first.request_id}_{second.request_id}",
        ScoringOutput(score),
        [*first.prompt_token_ids, *second.prompt_token_ids],
        first.num_cached_tokens + second.num_cached_tokens,
    )


def pair_up(
    data_1: PromptInput | Sequence[PromptInput], data_2: PromptInput | Sequence[PromptInput]
) -> tuple[list[PromptInput], list[PromptInput], list[tuple[int, int]]]:
    """Both sides as lists, and which of one meets which of the other: one text meets each of
    many, or two lists of one length meet in order.

    Raises:
        RequestError: the lengths do not match, or a side is empty.
    """
    first, second = one_or_many(data_1), one_or_many(data_2)
    if not first or not second:
        raise RequestError("score() needs at least one text on each side", "data_1")
    if len(first) not in (1, len(second)):
        raise RequestError(
            f"score() takes one text and many, or two lists of one length; got {len(first)} and"
            f" {len(second)}",
            "data_1",
        )
    return first, second, [(0 if len(first) == 1 else i, i) for i in range(len(second))]


def _vector(request: TrackedRequest) -> list[float]:
    sequence = request.sequences[0]
    if sequence.embedding is None:
        raise QuireError(f"prompt {request.request_id} gave no vector: {sequence.error}")
    return sequence.embedding
