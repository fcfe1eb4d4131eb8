"""Prompts as users write them, turned into token ids that the engine can take. Imports no torch.

A prompt is a text, a list of token ids, or a dict with `prompt` or `prompt_token_ids`. Everything
that could make the engine refuse is found here, before a request costs anything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from quire.core.errors import NotYetSupportedError, PromptTooLongError, RequestError, nearest
from quire.text.tokenizer import Tokenizer

# text, token ids, or {"prompt": …} / {"prompt_token_ids": …}
PromptInput = str | Sequence[int] | Mapping[str, Any]

_KEYS = ("prompt", "prompt_token_ids", "cache_salt")
_NOT_YET = ("multi_modal_data", "mm_processor_kwargs", "multi_modal_uuids", "prompt_embeds")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt in pieces: `token_ids` None until the text is encoded."""

    text: str | None
    token_ids: Sequence[int] | None
    cache_salt: str = ""
    add_special_tokens: bool = True  # False for text that came out of a chat template


def parse_prompt(value: PromptInput | Prompt) -> Prompt:
    """Recognise the form of a prompt; encodes nothing.

    Raises:
        RequestError: none of the forms.
    """
    if isinstance(value, Prompt):
        return value
    if isinstance(value, str):
        return Prompt(value, None)
    if isinstance(value, Mapping):
        return _parse_dict(value)
    if is_token_ids(value):
        return Prompt(None, value)
    raise RequestError(
        "a prompt must be a text, a list of token ids, or a dict with 'prompt' or"
        f" 'prompt_token_ids', got {type(value).__name__}",
        "prompt",
    )


def is_token_ids(value: object) -> bool:
    """Whether this is one list of token ids (an empty list counts as one)."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Sequence):
        return False
    return not value or (isinstance(value[0], int) and not isinstance(value[0], bool))


def one_or_many(prompts: PromptInput | Sequence[PromptInput]) -> list[PromptInput]:
    """A list of prompts, whatever was given. A list of integers is one prompt."""
    if isinstance(prompts, str | Mapping):
        return [prompts]
    if not isinstance(prompts, Sequence):
        raise RequestError(
            f"prompts must be a prompt or a list of prompts, got {type(prompts).__name__}",
            "prompts",
        )
    if prompts and is_token_ids(prompts):
        return [prompts]  # type: ignore[list-item]
    return list(prompts)  # type: ignore[arg-type]


def _parse_dict(value: Mapping[str, Any]) -> Prompt:
    for key in value:
        if key in _NOT_YET and value[key]:
            raise NotYetSupportedError(f"prompts with '{key}' are not supported yet; send text")
        if key not in _KEYS and key not in _NOT_YET:
            raise RequestError(f"a prompt has no '{key}'{nearest(key, _KEYS)}", "prompt")
    text, token_ids = value.get("prompt"), value.get("prompt_token_ids")
    if text is None and token_ids is None:
        raise RequestError("a prompt dict needs 'prompt' or 'prompt_token_ids'", "prompt")
    if text is not None and not isinstance(text, str):
        raise RequestError(f"'prompt' must be a text, got {type(text).__name__}", "prompt")
    if token_ids is not None and not is_token_ids(token_ids):
        raise RequestError(
            f"'prompt_token_ids' must be a list of integers, got {type(token_ids).__name__}",
            "prompt_token_ids",
        )
    return Prompt(text, token_ids, value.get("cache_salt") or "")


class PromptReader:
    """Encodes and checks prompts for one model.

    Args:
        tokenizer: None with `skip_tokenizer_init`; then prompts must be token ids.
        vocab_size: V, ids must be below it.
        max_model_len: prompt and output together.
    """

    def __init__(self, tokenizer: Tokenizer | None, vocab_size: int, max_model_len: int) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._valid_ids = list[Annotated[int, msgspec.Meta(ge=0, lt=vocab_size)]]
        self._max_model_len = max_model_len
        self._max_chars_per_token: int | None = None

    def encode(self, prompt: Prompt, truncate: int | None = None, room: int = 1) -> list[int]:
        """The prompt's token ids, truncated, checked, with room for one more.

        Args:
            truncate: `SamplingParams.truncate_prompt_tokens`.
            room: tokens that must fit behind the prompt; 0 where none is generated.

        Raises:
            RequestError: empty, or ids outside the vocabulary.
            PromptTooLongError: no room for a single generated token.
        """
        token_ids = prompt.token_ids
        if token_ids is None:
            token_ids = self._encode_text(prompt, truncate, room)  # it may be another model's
        return self.check_length(self._checked(token_ids), truncate, room)

    def check_length(self, token_ids: list[int], truncate: int | None, room: int = 1) -> list[int]:
        """Truncate, then refuse what is empty or too long."""
        limit = self._max_model_len
        if truncate is not None:
            if truncate > limit:
                raise RequestError(
                    f"truncate_prompt_tokens must be at most max_model_len={limit}, got {truncate}",
                    "truncate_prompt_tokens",
                    truncate,
                )
            # -1: as many as leave room for what is generated.
            token_ids = token_ids[-(limit - room if truncate == -1 else truncate) :]
        if not token_ids:
            raise RequestError("the prompt is empty; give at least one token", "prompt")
        if len(token_ids) + room > limit:
            raise self._too_long(f"length {len(token_ids)}", room)
        return token_ids

    def _encode_text(self, prompt: Prompt, truncate: int | None, room: int) -> list[int]:
        assert prompt.text is not None
        if self._tokenizer is None:
            raise RequestError(
                "a text prompt needs a tokenizer, and skip_tokenizer_init=True left it out;"
                " send prompt_token_ids",
                "prompt",
            )
        if truncate is None:
            self._refuse_hopeless(prompt.text, room)
        return self._tokenizer.encode(prompt.text, add_special_tokens=prompt.add_special_tokens)

    def _refuse_hopeless(self, text: str, room: int) -> None:
        """A text of so many characters cannot fit, whatever it says: do not tokenize it."""
        if len(text) <= self._max_model_len:
            return
        assert self._tokenizer is not None
        if self._max_chars_per_token is None:
            self._max_chars_per_token = self._tokenizer.max_chars_per_token() or 0
        at_least = self._max_chars_per_token and len(text) // self._max_chars_per_token
        if at_least + room > self._max_model_len:
            raise self._too_long(f"{len(text)} characters, at least {at_least} tokens", room)

    def _too_long(self, length: str, room: int) -> PromptTooLongError:
        also = ", which must also hold one generated token" if room else ""
        return PromptTooLongError(
            f"the prompt ({length}) is longer than the maximum model length of"
            f" {self._max_model_len} allows{also};"
            " shorten it, set truncate_prompt_tokens, or raise max_model_len (--max-model-len)",
            "prompt",
        )

    def _checked(self, token_ids: Sequence[int]) -> list[int]:
        """The same ids in a list of their own."""
        try:
            # A fifth of what `set(map(type, …))`, `min` and `max` took.
            return msgspec.convert(token_ids, self._valid_ids)
        except msgspec.ValidationError:
            pass  # of no list or tuple, too
        for position, token_id in enumerate(token_ids):
            if type(token_id) is not int:
                raise RequestError(
                    f"prompt_token_ids[{position}] must be an integer,"
                    f" got {type(token_id).__name__}",
                    "prompt_token_ids",
                )
            if not 0 <= token_id < self._vocab_size:
                raise RequestError(
                    f"prompt_token_ids[{position}] is {token_id}, outside the vocabulary"
                    f" [0, {self._vocab_size})",
                    "prompt_token_ids",
                    token_id,
                )
        return list(token_ids)
