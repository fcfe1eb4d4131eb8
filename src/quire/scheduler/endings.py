"""How a sequence ends: by its own tokens, or otherwise, and what that tells the user. Stop
strings are the front end's."""

from quire.core.messages import SequenceDelta
from quire.core.outputs import FinishReason
from quire.scheduler.sequence import Sequence

_MORE_MEMORY = "raise gpu_memory_utilization, kv_cache_memory_bytes or num_gpu_blocks_override"


def finish_reason(seq: Sequence) -> FinishReason | None:
    """Whether the newest known token ends the sequence. A stop token counts only past
    `min_tokens`; the sampler masks it before that, so it cannot have been the model's choice."""
    token_ids, num_prompt = seq.token_ids, seq.num_prompt_tokens
    num_output = len(token_ids) - num_prompt
    if num_output == 0:
        return None
    if token_ids[-1] in seq.stop_ids and num_output > seq.message.params.min_tokens:
        return "stop"
    if len(token_ids) >= seq.limit:
        return "length"
    repetition = seq.repetition
    if repetition is not None and num_output >= seq.message.params.min_tokens:
        # Only the output, and no more of it than matters.
        output = token_ids[max(num_prompt, len(token_ids) - repetition.reach) :]
        if repetition.found_in(output):
            return "repetition"
    return None


def append_tokens(seq: Sequence, new_ids: list[int]) -> tuple[list[int], FinishReason | None]:
    """Append sampled tokens up to the one that ends the sequence: (those taken, the reason)."""
    for count, token_id in enumerate(new_ids, 1):
        seq.token_ids.append(token_id)
        reason = finish_reason(seq)
        if reason is not None:
            return new_ids[:count], reason
    return new_ids, None


def named_stop_token(seq: Sequence) -> int | None:
    """The stop token that ended the sequence, if it is one the user named."""
    token_id = seq.token_ids[-1]
    return token_id if token_id in (seq.message.params.stop_token_ids or ()) else None


def last_delta(seq: Sequence, reason: FinishReason, error: str | None = None) -> SequenceDelta:
    """The delta that ends a sequence without a token."""
    return SequenceDelta(seq.request_id, seq.index, [], reason, error=error)


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
