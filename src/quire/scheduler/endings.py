"""How a sequence ends other than by its own tokens: the last delta, and what it tells the user."""

from quire.core.messages import SequenceDelta
from quire.core.outputs import FinishReason

_MORE_MEMORY = "raise gpu_memory_utilization, kv_cache_memory_bytes or num_gpu_blocks_override"


def last_delta(
    request_id: str, index: int, reason: FinishReason, error: str | None = None
) -> SequenceDelta:
    """The delta that ends a sequence without a token."""
    return SequenceDelta(request_id, index, [], reason, error=error)


def why_refused(
    num_prompt: int, max_model_len: int, cache_tokens: int, pools: bool = False
) -> str | None:
    """Why a prompt of that length can never run here, if so. `cache_tokens`: the longest
    sequence that an empty cache holds. `pools`: no token is generated after it."""
    if num_prompt == 0:
        return "the prompt is empty; give at least one token"
    if pools:
        if num_prompt > min(max_model_len, cache_tokens):
            return (
                f"a prompt of {num_prompt} tokens does not fit max_model_len={max_model_len} and"
                f" the KV cache of {cache_tokens} tokens of one sequence; shorten it, or set"
                " truncate_prompt_tokens"
            )
        return None
    if num_prompt >= max_model_len:
        return (
            f"a prompt of {num_prompt} tokens leaves no room to generate within "
            f"max_model_len={max_model_len}; shorten it, set truncate_prompt_tokens, "
            "or raise max_model_len"
        )
    if num_prompt >= cache_tokens:
        return (
            f"a prompt of {num_prompt} tokens and one to generate do not fit the KV cache, "
            f"which holds {cache_tokens} tokens of one sequence; {_MORE_MEMORY}"
        )
    return None


def does_not_fit(num_tokens: int, num_pages: list[int], page_size: int) -> str:
    """For a sequence that has the whole cache to itself and needs more."""
    pages = ", ".join(map(str, num_pages))
    return (
        f"a sequence of {num_tokens} tokens does not fit the KV cache of {pages} pages "
        f"of {page_size} tokens; {_MORE_MEMORY}, or lower max_tokens"
    )


def no_token(reason: str, position: int) -> str:
    """For a sequence that the runner could choose no token for, at `position`."""
    return f"{reason} (choosing the token at position {position})"
