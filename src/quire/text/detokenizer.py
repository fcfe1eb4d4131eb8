"""Incremental detokenization: token ids in, text out, never half a character.

The deltas of a sequence, joined, are the text its tokens add to the prompt's. A character whose
bytes are spread over several tokens comes with its last byte; `finish` gives what is left.
One difference from decoding the whole at once, on purpose: with byte-fallback tokenizers a run of
byte tokens that is not valid UTF-8 keeps its whole characters here, where `tokenizers` would
turn every byte of the run into U+FFFD, including characters already sent.

Front end only; one object per sequence. ~1 µs a token with a piece table, ~4 µs with the window.
"""

import codecs
from collections.abc import Sequence
from typing import Protocol

from quire.text.pieces import PieceTable
from quire.text.tokenizer import Tokenizer

# Prompt tokens read to know the text's left context: UTF-8 characters have at most 4 bytes.
_CONTEXT_TOKENS = 4
# The window gives up waiting for a character to complete after that many tokens.
_MAX_HELD_TOKENS = 8

_REPLACEMENT = "\ufffd"
_utf8 = codecs.getincrementaldecoder("utf-8")


class Detokenizer(Protocol):
    """One sequence's text."""

    def feed(self, ids: Sequence[int]) -> str:
        """The text that is certain once these tokens have come; may be empty."""

    def finish(self) -> str:
        """What was held back. Nothing may be fed afterwards."""


class NullDetokenizer:
    """For `detokenize=False`: no text at all."""

    def feed(self, ids: Sequence[int]) -> str:
        return ""

    def finish(self) -> str:
        return ""


class PieceDetokenizer:
    """Joins the bytes of the tokens; exact for byte-level and SentencePiece-like decoders."""

    __slots__ = ("_at_start", "_decode", "_table")

    def __init__(self, table: PieceTable, prompt_ids: Sequence[int]) -> None:
        self._table = table
        self._decode = _utf8("replace").decode
        context = _last_kept(prompt_ids, table.skipped)
        self._at_start = not context
        if context:
            # The decoder keeps the bytes of a character the prompt began.
            self._decode(b"".join([table[i] for i in context]))

    def feed(self, ids: Sequence[int]) -> str:
        table = self._table
        if self._at_start:
            return self._decode(self._first_pieces(ids))
        if len(ids) == 1:
            return self._decode(table[ids[0]])
        return self._decode(b"".join([table[i] for i in ids]))

    def finish(self) -> str:
        return self._decode(b"", True)

    def _first_pieces(self, ids: Sequence[int]) -> bytes:
        pieces = []
        for token_id in ids:
            if not self._at_start:
                pieces.append(self._table[token_id])
            elif self._table[token_id]:
                pieces.append(self._table.first(token_id))
                self._at_start = False
        return b"".join(pieces)


class WindowDetokenizer:
    """Decodes a short window twice and takes the difference; for any other decoder.

    `raw` maps ids whose text stands alone, without the space the decoder puts before it, when
    they follow one another (`spaces_between_special_tokens=False`).
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt_ids: Sequence[int],
        skip_special_tokens: bool,
        raw: dict[int, str],
    ) -> None:
        self._tokenizer = tokenizer
        self._skip = skip_special_tokens
        self._skipped = tokenizer.special_ids if skip_special_tokens else frozenset()
        self._raw = raw
        self._last_raw = False
        self._seen = _last_kept(prompt_ids, self._skipped)
        self._seen_text = self._text(self._seen)
        self._held: list[int] = []

    def feed(self, ids: Sequence[int]) -> str:
        return "".join([self._feed_one(token_id) for token_id in ids])

    def finish(self) -> str:
        return self._take(self._text(self._seen + self._held)) if self._held else ""

    def _feed_one(self, token_id: int) -> str:
        if token_id in self._skipped:
            return ""
        self._held.append(token_id)
        text = self._text(self._seen + self._held)
        if text.endswith(_REPLACEMENT) and len(self._held) < _MAX_HELD_TOKENS:
            return ""
        delta = self._take(text)
        if self._raw:
            raw = self._raw.get(token_id)
            if raw is not None and self._last_raw:
                delta = raw
            self._last_raw = raw is not None
        return delta

    def _take(self, text: str) -> str:
        delta = text[len(self._seen_text) :]
        self._seen = (self._seen + self._held)[-_CONTEXT_TOKENS:]
        self._seen_text = self._text(self._seen)
        self._held = []
        return delta

    def _text(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=self._skip) if ids else ""


def make_detokenizer(
    tokenizer: Tokenizer,
    prompt_ids: Sequence[int] = (),
    *,
    skip_special_tokens: bool = True,
    spaces_between_special_tokens: bool = True,
) -> Detokenizer:
    """A detokenizer for one sequence that continues `prompt_ids`."""
    table = tokenizer.pieces(skip_special_tokens)
    if table is not None:
        return PieceDetokenizer(table, prompt_ids)
    glued = not skip_special_tokens and not spaces_between_special_tokens
    raw = tokenizer.added_tokens if glued else {}
    return WindowDetokenizer(tokenizer, prompt_ids, skip_special_tokens, raw)


def _last_kept(ids: Sequence[int], skipped: frozenset[int]) -> list[int]:
    kept: list[int] = []
    for token_id in reversed(ids):
        if token_id not in skipped:
            kept.append(token_id)
            if len(kept) == _CONTEXT_TOKENS:
                break
    return kept[::-1]
