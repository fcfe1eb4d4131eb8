"""GrammarState: how far one sequence has come in its grammar, and what may come next."""

import enum

import numpy as np
from llguidance import LLMatcher

from quire.structured.check import one_line
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


class GrammarState:
    """One sequence's place in its grammar. Changed by `Grammars` alone.

    While BUSY, its matcher belongs to a worker. `slow` says that its last step took long: it is
    then not waited for.
    """

    __slots__ = ("delivered", "error", "mask", "matcher", "slow", "status")

    def __init__(self, delivered: list[int]) -> None:
        self.status = GrammarStatus.COMPILING
        self.delivered = delivered  # tokens of an earlier life, to be taken in first
        self.mask: np.ndarray | None = None  # [ceil(V / 32)] int32, never written to again
        self.error: str | None = None
        self.matcher: Matcher | None = None
        self.slow = False

    @property
    def ready(self) -> bool:
        """Whether its next token can be sampled."""
        return self.status is GrammarStatus.READY

    def fail(self, error: str) -> None:
        """It cannot go on."""
        self.status, self.error, self.matcher = GrammarStatus.FAILED, error, None


class GrammarError(Exception):
    """A grammar that cannot be compiled, or a text it does not take; one line."""


class Matcher:
    """llguidance's matcher, with errors raised. One thread at a time."""

    __slots__ = ("_eos", "_matcher", "_size")

    def __init__(self, matcher: LLMatcher, vocabulary_size: int, eos: np.ndarray) -> None:
        self._matcher = matcher
        self._size = vocabulary_size
        self._eos = eos

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
        """The tokens that may follow [ceil(V / 32)] int32; None if only the end may.

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
        if not matcher.is_accepting():
            raise GrammarError("it allows no text that goes on from here")
        return None


def token_mask(token_ids: tuple[int, ...], vocabulary_size: int) -> np.ndarray:
    """The mask that allows these tokens: bit t % 32 of word t // 32."""
    allowed = np.zeros(-(-vocabulary_size // WORD_BITS) * WORD_BITS, dtype=bool)
    allowed[list(token_ids)] = True
    return np.packbits(allowed, bitorder="little").view(np.int32)
