"""Texts and conversations to prompts whose token ids are known and fit the model.

Long texts are rendered and encoded in a thread, so that they do not hold up other clients.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from quire.core.errors import RequestError
from quire.engine.frontend_prompt import Prompt
from quire.server.errors import APIError
from quire.server.state import Serving

T = TypeVar("T")

OFFLOAD_CHARACTERS = 8192  # about 1 ms of encoding


@dataclass(frozen=True, slots=True)
class Truncation:
    """`limit` tokens are kept (-1: as many as the model takes), the last ones or the first.
    `room` tokens must fit behind the prompt: 0 where none is generated."""

    limit: int | None = None
    side: str | None = None
    room: int = 1


async def offload(characters: int, work: Callable[..., T], *arguments: Any) -> T:
    """`work(*arguments)`, in a thread if it is about that much text."""
    if characters <= OFFLOAD_CHARACTERS:
        return work(*arguments)
    return await asyncio.to_thread(work, *arguments)


def encode_text(
    serving: Serving,
    text: str,
    truncation: Truncation,
    *,
    cache_salt: str = "",
    add_special_tokens: bool = True,
) -> Prompt:
    """A text as a prompt.

    Raises:
        RequestError: it is empty, or no text at all.
        APIError: it does not fit.
    """
    limit = serving.info.max_model_len
    if truncation.limit is None and len(text) > limit:
        widest = serving.tokenizer.max_chars_per_token()
        at_least = len(text) // widest if widest else 0
        if at_least > limit:
            raise _too_long(limit, f"{len(text)} characters, at least {at_least}", "input_text")
    token_ids = serving.tokenizer.encode(text, add_special_tokens=add_special_tokens)
    return _fitted(serving, text, token_ids, truncation, cache_salt)


def take_ids(
    serving: Serving, token_ids: Sequence[int], truncation: Truncation, cache_salt: str = ""
) -> Prompt:
    """Token ids as a prompt. Raises as `encode_text` does."""
    vocab_size = serving.info.vocab_size
    if token_ids and not (min(token_ids) >= 0 and max(token_ids) < vocab_size):
        wrong = next(i for i in token_ids if not 0 <= i < vocab_size)
        raise RequestError(
            f"prompt holds token id {wrong}, outside the vocabulary [0, {vocab_size})",
            "prompt",
            wrong,
        )
    return _fitted(serving, None, list(token_ids), truncation, cache_salt)


def _fitted(
    serving: Serving,
    text: str | None,
    token_ids: list[int],
    truncation: Truncation,
    cache_salt: str,
) -> Prompt:
    limit = serving.info.max_model_len
    keep = truncation.limit
    if keep is not None:
        if keep > limit:
            raise RequestError(
                f"truncate_prompt_tokens must be at most max_model_len={limit}",
                "truncate_prompt_tokens",
                keep,
            )
        if keep == 0:
            raise RequestError(
                "truncate_prompt_tokens must be -1 or at least 1", "truncate_prompt_tokens", keep
            )
        keep = limit - truncation.room if keep == -1 else keep
        token_ids = token_ids[:keep] if truncation.side == "right" else token_ids[-keep:]
    if not token_ids:
        raise RequestError("the prompt is empty; give at least one token", "prompt")
    if len(token_ids) > limit:
        raise _too_long(limit, str(len(token_ids)), "input_tokens", len(token_ids))
    if len(token_ids) + truncation.room > limit:
        raise RequestError(
            f"max_tokens must be at least 1, got 0. The prompt takes all of the"
            f" {limit} tokens of the context; shorten it",
            "max_tokens",
            0,
        )
    return Prompt(text, token_ids, cache_salt)


def _too_long(limit: int, length: str, param: str, value: int | None = None) -> APIError:
    facts = f"parameter={param}" + ("" if value is None else f", value={value}")
    return APIError(
        400,
        f"This model's maximum context length is {limit} tokens. However, your prompt contains"
        f" {length} input tokens. Please reduce the length of the input prompt. ({facts})",
        "BadRequestError",
        param,
    )
