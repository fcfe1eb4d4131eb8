"""Token counts of an answer."""

from collections.abc import Sequence
from typing import Any

from quire.engine.frontend_request import TrackedRequest


def usage_body(
    requests: Sequence[TrackedRequest],
    *,
    details: bool = False,
    reasoning_tokens: int | None = None,
    nulls: bool = False,
) -> dict[str, Any]:
    """`usage` of a whole answer.

    Args:
        details: say how many prompt tokens came from the cache.
        reasoning_tokens: known only with a reasoning parser.
        nulls: fields without a value are null, rather than left out.
    """
    prompt = sum(len(request.message.prompt_token_ids) for request in requests)
    completion = sum(len(s.token_ids) for request in requests for s in request.sequences)
    body: dict[str, Any] = count_body(prompt, completion)
    if details:
        cached = sum(request.num_cached_tokens or 0 for request in requests)
        body["prompt_tokens_details"] = {"cached_tokens": cached}
    elif nulls:
        body["prompt_tokens_details"] = None
    if reasoning_tokens is not None:
        body["completion_tokens_details"] = {"reasoning_tokens": reasoning_tokens}
    return body


def count_body(prompt: int, completion: int) -> dict[str, int]:
    """The three counts."""
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + completion,
        "completion_tokens": completion,
    }
