"""Tokenizer: text to ids and back, with the facts a serving engine needs.

One class over two libraries: `tokenizers` (everything that has a `tokenizer.json`) and, for the
rest, a `transformers` tokenizer written in Python. Loading is `text.load`; incremental decoding
is `text.detokenizer`. Thread-safe after construction. Nothing here cleans up spaces after
decoding: generated text is what the model wrote.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from quire.core.errors import RequestError
from quire.text.continuation import ContinuationEncoder
from quire.text.pieces import PieceTable, piece_table

# A `transformers` tokenizer object; typed loosely because importing it costs a second.
HFTokenizer = Any


@dataclass(frozen=True, slots=True)
class TokenizerFacts:
    """What a tokenizer's files say besides its vocabulary.

    `special_tokens` maps the named ones ("bos_token", "eos_token", …) to their text, as chat
    templates see them. `chat_template` is one template, several by name, or None.
    """

    source: str
    special_tokens: dict[str, str]
    chat_template: str | dict[str, str] | None = None


class Tokenizer:
    """Encode and decode. `backend` is a `tokenizers.Tokenizer`, or None for a Python tokenizer.

    Args:
        backend: a `tokenizers.Tokenizer` without truncation and padding; owned by this object.
        slow: a `transformers` tokenizer that has no such backend.
        load_hf: makes a `transformers` tokenizer for callers that ask for one.
    """

    def __init__(
        self,
        facts: TokenizerFacts,
        *,
        backend: Any = None,
        slow: HFTokenizer = None,
        load_hf: Callable[[], HFTokenizer],
    ) -> None:
        assert (backend is None) != (slow is None)
        self.facts = facts
        self._backend = backend
        self._slow = slow
        self._load_hf = load_hf
        self._hf: HFTokenizer = None
        self._token_text: dict[int, str] = {}
        if backend is not None:
            backend.no_truncation()
            backend.no_padding()
            added = backend.get_added_tokens_decoder()
            self.vocab_size: int = backend.get_vocab_size(with_added_tokens=True)
        else:
            added = slow.added_tokens_decoder
            self.vocab_size = len(slow.get_vocab())
        self.added_tokens: dict[int, str] = {i: token.content for i, token in added.items()}
        self.special_ids: frozenset[int] = frozenset(i for i, t in added.items() if t.special)
        if slow is not None:
            self.special_ids |= frozenset(slow.all_special_ids)
        self._pieces = piece_table(backend, self.special_ids) if backend is not None else None

    @cached_property
    def max_token_id(self) -> int:
        """-1 without tokens. Takes 0.2 s for 150,000 of them."""
        library = self._slow if self._backend is None else self._backend
        return max(library.get_vocab().values(), default=-1)

    @property
    def chat_template(self) -> str | dict[str, str] | None:
        return self.facts.chat_template

    @property
    def eos_token_id(self) -> int | None:
        token = self.facts.special_tokens.get("eos_token")
        return None if token is None else self.token_id(token)

    def __len__(self) -> int:
        return self.vocab_size

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text; special tokens written in it are recognised."""
        _check_text(text)
        if self._backend is not None:
            return list(self._backend.encode(text, add_special_tokens=add_special_tokens).ids)
        return list(self._slow.encode(text, add_special_tokens=add_special_tokens))

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """Text of a whole sequence. Ids that stand for nothing are left out."""
        if self._backend is not None:
            return str(self._backend.decode(list(ids), skip_special_tokens=skip_special_tokens))
        known = [i for i in ids if i <= self.max_token_id]
        return str(
            self._slow.decode(
                known,
                skip_special_tokens=skip_special_tokens,
                clean_up_tokenization_spaces=False,
            )
        )

    def token_text(self, token_id: int) -> str:
        """One token alone as text, for log-probabilities. A part of a character gives U+FFFD."""
        text = self._token_text.get(token_id)
        if text is None:
            table = self.pieces(skip_special_tokens=False)
            text = (
                self.decode([token_id])
                if table is None
                else table[token_id].decode("utf-8", "replace")
            )
            self._token_text[token_id] = text
        return text

    def token_id(self, token: str) -> int | None:
        """The id of a token written exactly so, or None."""
        if self._backend is not None:
            found: int | None = self._backend.token_to_id(token)
            return found
        return self._slow.get_vocab().get(token)

    def pieces(self, skip_special_tokens: bool) -> PieceTable | None:
        """Bytes of each id, for tokenizers whose decoding is a concatenation; see `pieces`."""
        if self._pieces is None:
            return None
        return self._pieces.without_special if skip_special_tokens else self._pieces.all

    def continuation_encoder(self) -> Callable[[str], list[int]] | None:
        """Encodes pieces of text within a text; None where ids are not pieces of text."""
        if self._backend is None or self._pieces is None:
            return None
        return ContinuationEncoder(self._backend, self._pieces.all).encode

    def max_chars_per_token(self) -> int | None:
        """No token stands for more characters than that; None if a normalizer may drop text."""
        if self._backend is None or self._pieces is None or not self._pieces.byte_level:
            return None
        if self._backend.normalizer is not None:
            return None
        return max((len(token) for token in self._backend.get_vocab()), default=1)

    def hf(self) -> HFTokenizer:
        """The `transformers` tokenizer of the same files, a separate object loaded on first use."""
        if self._hf is None:
            self._hf = self._load_hf()
        return self._hf


def _check_text(text: str) -> None:
    if not isinstance(text, str):
        raise RequestError(f"a prompt must be a string, got {type(text).__name__}", "prompt")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RequestError(
            f"the prompt holds an unpaired surrogate at character {error.start}, which is not text;"
            " decode it with errors='replace'",
            "prompt",
        ) from None
