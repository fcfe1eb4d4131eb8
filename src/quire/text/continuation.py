"""ContinuationEncoder: the tokens of a piece of text as it stands within a text.

What a tokenizer does at the beginning of a text (a space in front, a beginning-of-text token) it
must not do here: the tokens, put together, are exactly the piece. Special tokens written in it
are characters like any others.
"""

from collections.abc import Mapping
from typing import Any

# Something to stand in front of the piece, where the tokenizer adds a space at the beginning.
_BEFORE = "\n"


class ContinuationEncoder:
    """Thread-safe after construction.

    Args:
        backend: a `tokenizers.Tokenizer`; a copy is made.
        pieces: the bytes of each token.
    """

    def __init__(self, backend: Any, pieces: Mapping[int, bytes]) -> None:
        self._backend = type(backend).from_str(backend.to_str())
        self._backend.encode_special_tokens = True
        self._pieces = pieces
        self._longest = 0
        self._ids: dict[bytes, int] = {}

    def encode(self, text: str) -> list[int]:
        """The tokenizer's own choice if it fits, else the longest tokens from the left."""
        wanted = text.encode("utf-8")
        ids = self._encode(text)
        if self._bytes(ids) == wanted:
            return ids
        ids = self._after(self._encode(_BEFORE + text), len(wanted))
        if self._bytes(ids) == wanted:
            return ids
        return self._longest_first(wanted)

    def _encode(self, text: str) -> list[int]:
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def _bytes(self, ids: list[int]) -> bytes:
        return b"".join(self._pieces[i] for i in ids)

    def _after(self, ids: list[int], size: int) -> list[int]:
        """The last tokens, of `size` bytes together or more."""
        taken = 0
        for index in range(len(ids) - 1, -1, -1):
            if taken >= size:
                return ids[index + 1 :]
            taken += len(self._pieces[ids[index]])
        return ids

    def _longest_first(self, wanted: bytes) -> list[int]:
        """[] if there is a byte that no token stands for."""
        if not self._ids:
            vocabulary = self._backend.get_vocab(with_added_tokens=False).values()
            table = {self._pieces[i]: i for i in sorted(vocabulary, reverse=True)}
            table.pop(b"", None)
            self._longest = max(map(len, table), default=0)
            self._ids = table
        ids: list[int] = []
        position = 0
        while position < len(wanted):
            for size in range(min(self._longest, len(wanted) - position), 0, -1):
                token_id = self._ids.get(wanted[position : position + size])
                if token_id is not None:
                    ids.append(token_id)
                    position += size
                    break
            else:
                return []
        return ids
