"""Checks of sampling parameters that need to know the vocabulary. Imports no torch.

`SamplingParams` checks its own ranges; what depends on the model is checked here, by the front
end, before a request costs anything.
"""

from collections.abc import Iterable, Sequence

from quire.core.errors import RequestError
from quire.core.sampling_params import SamplingParams

MAX_LOGPROBS = 20  # vLLM's default for --max-logprobs
NO_LIMIT = -1


def check_params(
    params: SamplingParams,
    vocab_size: int,
    max_logprobs: int = MAX_LOGPROBS,
    bad_words_ids: Sequence[Sequence[int]] = (),
) -> None:
    """Refuse token ids outside [0, vocab_size) and more log-probabilities than are allowed.

    Args:
        vocab_size: V, the width of the model's logits.
        max_logprobs: most log-probabilities per position; -1 is no limit.
        bad_words_ids: `params.bad_words` as the front end tokenized them.

    Raises:
        RequestError: naming the parameter, the value and the range.
    """
    _check_ids("logit_bias", params.logit_bias or (), vocab_size)
    _check_ids("allowed_token_ids", params.allowed_token_ids or (), vocab_size)
    _check_ids("stop_token_ids", params.stop_token_ids or (), vocab_size)
    for word in bad_words_ids:
        if not word:
            raise RequestError("bad_words holds a word of no tokens", "bad_words", word)
        _check_ids("bad_words", word, vocab_size)
    _check_logprobs("logprobs", params.logprobs, vocab_size, max_logprobs)
    _check_logprobs("prompt_logprobs", params.prompt_logprobs, vocab_size, max_logprobs)
    _check_something_is_left(params)


def _check_ids(name: str, token_ids: Iterable[int], vocab_size: int) -> None:
    for token in token_ids:
        if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < vocab_size:
            raise RequestError(
                f"{name} holds token id {token!r}, outside the vocabulary [0, {vocab_size})",
                name,
                token,
            )


def _check_logprobs(name: str, asked: int | None, vocab_size: int, limit: int) -> None:
    if asked is None or limit == NO_LIMIT:
        return
    if (vocab_size if asked == -1 else asked) > limit:
        raise RequestError(
            f"{name} must be in [0, {limit}], got {asked}"
            + (" (the whole vocabulary)" if asked == -1 else "")
            + "; raise max_logprobs (-1 is no limit) to allow it",
            name,
            asked,
        )


def _check_something_is_left(params: SamplingParams) -> None:
    """Until `min_tokens`, the user's stop tokens are banned: one other must be allowed."""
    allowed = set(params.allowed_token_ids or ())
    if params.min_tokens and allowed and allowed <= set(params.stop_token_ids or ()):
        raise RequestError(
            f"allowed_token_ids holds stop_token_ids only, and min_tokens={params.min_tokens} "
            "bans those; allow another token or set min_tokens=0",
            "allowed_token_ids",
            params.allowed_token_ids,
        )
