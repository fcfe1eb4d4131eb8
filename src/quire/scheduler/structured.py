"""Sequences with a grammar: which of them are held back, and how their grammars end them.

The grammars themselves are compiled and advanced in `quire.structured`, in threads. A sequence
whose grammar is not ready is not planned: before it runs it is held aside, so that others pass
it, and when it comes back its place in the queue is the one it had.
"""

from collections.abc import Iterable

from quire.core.messages import AddRequest
from quire.scheduler.sequence import Sequence
from quire.structured.grammars import Grammars
from quire.structured.state import GrammarState, GrammarStatus

# How long a plan waits for masks that are nearly there; they usually take a tenth of a
# millisecond. A sequence that misses it sits one step out.
GRACE_S = 0.005

_UNAVAILABLE = "structured outputs need a tokenizer; leave skip_tokenizer_init off"


def has_ended(state: GrammarState) -> bool:
    """Whether the grammar allows no more, or cannot go on."""
    return state.status in (GrammarStatus.COMPLETE, GrammarStatus.FAILED)


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

    def news(self) -> list[tuple[Sequence, GrammarState]]:
        """Whose state has changed by other means than `advance`; first waits a moment for
        running ones."""
        changed, self._settled = self._settled, []
        if self._grammars is not None and self._sequences:
            self._grammars.settle(GRACE_S)
            changed += self._grammars.news()
        return [(self._sequences[state], state) for state in changed if state in self._sequences]

    def advance(self, state: GrammarState, token_ids: list[int]) -> bool:
        """Take in new tokens; whether that ends the sequence."""
        assert self._grammars is not None
        self._grammars.advance(state, token_ids)
        return has_ended(state)

    def hold(self, state: GrammarState) -> None:
        """Keep its waiting sequence until it is ready."""
        self._held.add(state)

    def take_back(self, state: GrammarState) -> bool:
        """Whether its sequence was held, and is no longer."""
        was_held = state in self._held
        self._held.discard(state)
        return was_held

    def held(self) -> Iterable[Sequence]:
        return [self._sequences[state] for state in self._held]

    def forget(self, state: GrammarState) -> None:
        """Its sequence has ended."""
        if self._sequences.pop(state, None) is not None:
            self._held.discard(state)
            if self._grammars is not None:
                self._grammars.release(state)

    def wait(self, timeout: float) -> None:
        """Wait until some grammar has come further, if any is being worked on."""
        if self._sequences and self._grammars is not None:
            self._grammars.wait(timeout)

    def close(self) -> None:
        if self._grammars is not None:
            self._grammars.close()
