"""GrammarState: how far one sequence has come in its grammar, and what may come next."""

import enum
import re
from dataclasses import dataclass

import numpy as np
from llguidance import LLMatcher

from quire.structured.limits import parser_limits
from quire.structured.vocabulary import Vocabulary

WORD_BITS = 32


class GrammarStatus(enum.Enum):
    """COMPILING: waits for its grammar. BUSY: a thread works on it. READY: `mask` is that of the
    known tokens. COMPLETE: nothing but the end may follow. FAILED: see `error`."""

    COMPILING = "compiling"
    BUSY = "busy"
    READY = "ready"
    COMPLETE = "complete"
    FAILED = "failed"


@dataclass(slots=True, eq=False)
class GrammarState:
    """One sequence's place in its grammar. Changed by `Grammars` alone.

    While BUSY, its matcher belongs to a worker. `slow` says that its last step took long: it is
    then not waited for.
    """

    delivered: list[int]  # tokens of an earlier life, to be taken in first
    status: GrammarStatus = GrammarStatus.COMPILING
    mask: np.ndarray | None = None  # [ceil(V / 32)] int32, never written to again
    error: str | None = None
    matcher: "Matcher | None" = None
    slow: bool = False

    @property
    def ready(self) -> bool:
        """Whether its next token can be sampled."""
        return self.status is GrammarStatus.READY

    def fail(self, error: str) -> None:
        self.status, self.error, self.matcher = GrammarStatus.FAILED, error, None


class GrammarError(Exception):
    """A grammar that cannot be compiled, or a text it does not take; one line."""


@dataclass(frozen=True, slots=True)
class Matcher:
    """llguidance's matcher, with errors raised. One thread at a time."""

    _matcher: LLMatcher
    _size: int  # V
    _eos: np.ndarray  # the mask that allows these alone

    @staticmethod
    def compile(grammar: str, vocabulary: Vocabulary) -> "Matcher":
        """Compile a grammar.

        Raises:
            GrammarError: it is not one.
        """
        matcher = LLMatcher(vocabulary.tokenizer, grammar, log_level=0, limits=parser_limits())
        if matcher.is_error():
            raise GrammarError(one_line(matcher.get_error()))
        return Matcher(
            matcher, vocabulary.size, token_mask(vocabulary.eos_token_ids, vocabulary.size)
        )

    def copy(self) -> "Matcher":
        """A matcher at the same place that goes its own way; takes microseconds."""
        return Matcher(self._matcher.deep_copy(), self._size, self._eos)

    def consume(self, token_ids: list[int]) -> None:
        """Take in tokens.

        Raises:
            GrammarError: the grammar does not allow one of them.
        """
        for token_id in token_ids:
            if not self._matcher.consume_token(token_id):
                raise GrammarError(one_line(self._matcher.get_error()))

    @property
    def complete(self) -> bool:
        """Whether nothing may follow."""
        return bool(self._matcher.is_stopped())

    def next_mask(self) -> np.ndarray | None:
        """The tokens that may follow [ceil(V / 32)] int32; None if only the end may, be it that
        the grammar is complete or that it asks for a token that ends every text.

        Raises:
            GrammarError: the grammar became too complex, or allows nothing at all.
        """
        matcher = self._matcher
        mask = np.zeros(-(-self._size // WORD_BITS), dtype=np.int32)
        matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        if matcher.is_error():
            raise GrammarError(one_line(matcher.get_error()))
        if (mask & ~self._eos).any():
            return mask
        if not mask.any() and not matcher.is_accepting():
            raise GrammarError("it allows no text that goes on from here")
        return None


def token_mask(token_ids: tuple[int, ...], vocabulary_size: int) -> np.ndarray:
    """The mask that allows these tokens: bit t % 32 of word t // 32."""
    allowed = np.zeros(-(-vocabulary_size // WORD_BITS) * WORD_BITS, dtype=bool)
    allowed[list(token_ids)] = True
    return np.packbits(allowed, bitorder="little").view(np.int32)


# What the library says in a word.
_PLAINLY = {
    "NoExtensionBias": "it allows no text at all",
    "ParserTooComplex": "it is too complex; simplify it",
    "LexerTooComplex": "its regular expressions are too complex; simplify them",
}
_DRAWING = re.compile(r"\s*(\^|<state>|<non-verbose/>|\d+ *\|)")
_PLACE = re.compile(r"^at \d+\(\d+\): (?:failed to compile JSON schema: )?")
_LONG = 300  # characters of an error


def one_line(message: str) -> str:
    """An error of the library without its drawing of the grammar, and its place in one that we
    wrote."""
    kept = [line.strip() for line in message.splitlines() if not _DRAWING.match(line)]
    whole = _PLACE.sub("", " ".join(filter(None, kept)))
    if len(whole) > _LONG:  # it quotes the grammar; what is wrong stands at the end
        whole = f"{whole[: _LONG // 3]} … {whole[-_LONG // 2 :]}"
    return _PLAINLY.get(whole, whole) or "it is not valid"
