"""Tokens as bytes: for most tokenizers, decoding is joining a fixed byte string per token.

Recognises from a `tokenizers` decoder whether that holds (byte-level BPE, byte fallback,
metaspace) and builds the table lazily. Decoders that look at neighbours (WordPiece, CTC, …)
have no table and go through the window in `text.detokenizer`.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Piece = Callable[[str], bytes]

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>\Z")


class PieceTable(dict[int, bytes]):
    """id -> bytes, filled on first use. `first(id)` is the piece at the very start of a text.

    Ids outside the vocabulary and ids in `skipped` are empty.
    """

    def __init__(
        self,
        token_of: Callable[[int], str | None],
        piece: Piece,
        first: Piece,
        skipped: frozenset[int],
    ) -> None:
        super().__init__()
        self._token_of = token_of
        self._piece = piece
        self._first = first
        self.skipped = skipped

    def __missing__(self, token_id: int) -> bytes:
        token = None if token_id in self.skipped else self._token_of(token_id)
        value = b"" if token is None else self._piece(token)
        self[token_id] = value
        return value

    def first(self, token_id: int) -> bytes:
        """The piece of a token with nothing in front: metaspace decoders drop its space."""
        token = None if token_id in self.skipped else self._token_of(token_id)
        return b"" if token is None else self._first(token)


@dataclass(frozen=True, slots=True)
class PieceTables:
    """The table with special tokens and the one without. `byte_level`: every character of a
    token is one byte of text."""

    all: PieceTable
    without_special: PieceTable
    byte_level: bool


def piece_table(backend: Any, special_ids: frozenset[int]) -> PieceTables | None:
    """The tables of a `tokenizers.Tokenizer`, or None where decoding is not a concatenation."""
    if backend.decoder is None:
        return None
    rule = _rule(json.loads(backend.decoder.__getstate__()))
    if rule is None:
        return None
    piece, first, byte_level = rule
    return PieceTables(
        PieceTable(backend.id_to_token, piece, first, frozenset()),
        PieceTable(backend.id_to_token, piece, first, special_ids),
        byte_level,
    )


def _rule(decoder: dict[str, Any]) -> tuple[Piece, Piece, bool] | None:
    kind = decoder["type"]
    if kind == "ByteLevel":
        return _byte_level, _byte_level, True
    if kind == "Metaspace":
        return _metaspace(decoder)
    if kind == "Sequence":
        return _sequence(decoder["decoders"])
    return None


def _metaspace(decoder: dict[str, Any]) -> tuple[Piece, Piece, bool]:
    mark = decoder["replacement"]

    def piece(token: str) -> bytes:
        return token.replace(mark, " ").encode()

    def first(token: str) -> bytes:
        return token.replace(mark, "").encode()

    return piece, (piece if decoder.get("prepend_scheme") == "never" else first), False


def _sequence(steps: list[dict[str, Any]]) -> tuple[Piece, Piece, bool] | None:
    """Replace* ByteFallback? Fuse? Strip?: the decoders of converted SentencePiece models."""
    if len(steps) == 1:
        return _rule(steps[0])
    replaces: list[tuple[str, str]] = []
    byte_fallback = False
    strip: str | None = None
    order = {"Replace": 0, "ByteFallback": 1, "Fuse": 2, "Strip": 3}
    reached = 0
    for step in steps:
        kind = step["type"]
        if kind not in order or order[kind] < reached:
            return None
        reached = order[kind]
        if kind == "Replace":
            if "String" not in step["pattern"]:
                return None
            replaces.append((step["pattern"]["String"], step["content"]))
        elif kind == "ByteFallback":
            byte_fallback = True
        elif kind == "Strip":
            if strip is not None or step["start"] > 1 or step["stop"] or len(step["content"]) != 1:
                return None
            if step["start"] and not any(s["type"] == "Fuse" for s in steps):
                return None
            strip = step["content"] if step["start"] else None

    def piece(token: str) -> bytes:
        for old, new in replaces:
            token = token.replace(old, new)
        match = _BYTE_TOKEN.match(token) if byte_fallback else None
        return bytes([int(match[1], 16)]) if match else token.encode()

    def first(token: str) -> bytes:
        value = piece(token)
        return value.removeprefix(strip.encode()) if strip else value

    return piece, first, False


def _byte_level(token: str) -> bytes:
    try:
        return bytes([_BYTE_OF[character] for character in token])
    except KeyError:  # an added token, written as it is
        return token.encode()


def _byte_characters() -> dict[str, int]:
    """GPT-2's alphabet: printable Latin-1 bytes stand for themselves, the others for the
    characters from U+0100 on, in order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in set(printable)]
    table.update({chr(0x100 + index): byte for index, byte in enumerate(others)})
    return table


_BYTE_OF = _byte_characters()
