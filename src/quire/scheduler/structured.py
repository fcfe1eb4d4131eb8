"""Sequences with a grammar: which of them are held back, and how their grammars end them.

The grammars themselves are compiled and advanced in `quire.structured`, in threads. A sequence
whose grammar is not ready is not planned: before it runs it is held aside, so that others pass
it, and when it comes back its place in the queue is the one it had.
"""

from collections.abc import Iterable

import numpy as np

from quire.core.messages import AddRequest
from quire.core.outputs import FinishReason
from quire.scheduler.sequence import Sequence
from quire.structured.grammars import Grammars
from quire.structured.state import GrammarState, GrammarStatus

# How long a plan waits for masks that are nearly there; they usually take a tenth of a
# millisecond. A sequence that misses it sits one step out.
GRACE_S = 0.005

_UNAVAILABLE = "structured outputs need a tokenizer; leave skip_tokenizer_init off"


class StructuredSequences:
    """The grammars of the unfinished sequences that have one."""

    def __init__(self, grammars: Grammars | None) -> None:
        self._grammars = grammars
        self._sequences: dict[GrammarState, Sequence] = {}
        self._held: set[GrammarState] = set()
        self._settled: list[GrammarState] = []  # decided at once, to be told by `news`

    def open(self, message: AddRequest, sequences: list[Sequence]) -> None:
        """Give new sequences their grammar states, if the request wants that."""
        params = message.params.structured_outputs
        if params is None:
            return
        delivered = [seq.token_ids[seq.num_prompt_tokens :] for seq in sequences]
        if self._grammars is None:
            states = [GrammarState(tokens) for tokens in delivered]
            for state in states:
                state.fail(_UNAVAILABLE)
        else:
            states = self._grammars.open(params, delivered)
        for seq, state in zip(sequences, states):
            seq.grammar = state
            self._sequences[state] = seq
        self._settled += states

    def news(self) -> list[Sequence]:
        """Sequences whose state has changed by other means than `advance`; first waits a
        moment for running ones."""
        changed, self._settled = self._settled, []
        if self._grammars is not None and self._sequences:
            self._grammars.settle(GRACE_S)
            changed += self._grammars.news()
        return [self._sequences[state] for state in changed if state in self._sequences]

    def advance(self, seq: Sequence, token_ids: list[int]) -> bool:
        """Take in a sequence's new tokens; whether that ends it."""
        assert self._grammars is not None
        assert seq.grammar is not None
        self._grammars.advance(seq.grammar, token_ids)
        return self.ended(seq)

    def mask(self, seq: Sequence) -> np.ndarray:
        """The tokens that a sequence which is ready may sample."""
        assert seq.grammar is not None
        assert seq.grammar.mask is not None
        return seq.grammar.mask

    def ended(self, seq: Sequence) -> bool:
        """Whether its grammar allows no more, or cannot go on."""
        assert seq.grammar is not None
        return seq.grammar.status in (GrammarStatus.COMPLETE, GrammarStatus.FAILED)

    def ending(self, seq: Sequence) -> tuple[FinishReason, str | None]:
        """How it ends: complete, or with an error."""
        assert seq.grammar is not None
        error = seq.grammar.error
        return ("stop", None) if error is None else ("error", error)

    def hold(self, seq: Sequence) -> None:
        """Keep a waiting sequence until its grammar is ready."""
        assert seq.grammar is not None
        self._held.add(seq.grammar)

    def take_back(self, seq: Sequence) -> bool:
        """Whether it was held, and is no longer."""
        assert seq.grammar is not None
        if seq.grammar not in self._held:
            return False
        self._held.remove(seq.grammar)
        return True

    def held(self) -> Iterable[Sequence]:
        """Those held."""
        return [self._sequences[state] for state in self._held]

    def forget(self, seq: Sequence) -> None:
        """It has ended."""
        state = seq.grammar
        if state is not None and self._sequences.pop(state, None) is not None:
            self._held.discard(state)
            if self._grammars is not None:
                self._grammars.release(state)

    def wait(self, timeout: float) -> None:
        """Wait until some grammar has come further, if any is being worked on."""
        if self._sequences and self._grammars is not None:
            self._grammars.wait(timeout)

    def close(self) -> None:
        """End the threads."""
        if self._grammars is not None:
            self._grammars.close()
