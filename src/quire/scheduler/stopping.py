"""When a sequence ends: the rules on token ids. Stop strings are the front end's."""

from quire.core.outputs import FinishReason
from quire.scheduler.sequence import Sequence


def finish_reason(sequence: Sequence) -> FinishReason | None:
    """Whether the newest known token ends the sequence. A stop token counts only past
    `min_tokens`; the sampler masks it before that, so it cannot have been the model's choice."""
    num_output = sequence.num_output_tokens
    if num_output == 0:
        return None
    if (
        sequence.token_ids[-1] in sequence.stop_ids
        and num_output > sequence.message.params.min_tokens
    ):
        return "stop"
    if len(sequence.token_ids) >= sequence.limit:
        return "length"
    return None


def named_stop_token(sequence: Sequence) -> int | None:
    """The stop token that ended the sequence, if it is one the user named."""
    token_id = sequence.token_ids[-1]
    return token_id if token_id in (sequence.message.params.stop_token_ids or ()) else None


def append_tokens(sequence: Sequence, new_ids: list[int]) -> tuple[list[int], FinishReason | None]:
    """Append sampled tokens up to the one that ends the sequence: (those taken, the reason)."""
    for count, token_id in enumerate(new_ids, 1):
        sequence.token_ids.append(token_id)
        reason = finish_reason(sequence)
        if reason is not None:
            return new_ids[:count], reason
    return new_ids, None
