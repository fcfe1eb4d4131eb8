"""Grammars: the engine's side of structured outputs. Compiles, advances, and never waits.

Everything slow happens in worker threads: loading the vocabulary (once), compiling a grammar,
computing the mask of the tokens that may come next. llguidance leaves the interpreter to others
meanwhile. The scheduler's thread calls the methods here and learns from `news` whose state has
changed. A grammar is compiled once for all requests that have it at the same time or soon after.

What takes longer than the time limit fails the sequences that wait for it, and no others.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from quire.core.errors import RequestError, one_line
from quire.core.structured_outputs import StructuredOutputsParams
from quire.structured.check import constraint_key, grammar_of
from quire.structured.state import GrammarError, GrammarState, GrammarStatus, Matcher
from quire.structured.vocabulary import Vocabulary
from quire.structured.workers import Job, Workers

# A step of one sequence's grammar that takes longer is done beside the others from then on.
SLOW_S = 0.005
# A thread busy for longer is replaced.
PATIENCE_S = 0.05
MAX_THREADS = 32
CACHED_GRAMMARS = 128


@dataclass(frozen=True, slots=True)
class Compiled:
    """A grammar at its beginning. `first_mask` is None if it allows only the empty text."""

    matcher: Matcher
    first_mask: np.ndarray | None


class Grammars:
    """Used by the scheduler's thread.

    Args:
        load_vocabulary: called once, in a worker, when the first constraint comes.
        timeout: seconds that compiling a grammar, or one step of it, may take.
        num_threads: workers beside those that are stuck.
        disable_any_whitespace: the default for JSON.
    """

    def __init__(
        self,
        load_vocabulary: Callable[[], Vocabulary],
        timeout: float = 5.0,
        num_threads: int = 2,
        disable_any_whitespace: bool = False,
    ) -> None:
        self._load_vocabulary = load_vocabulary
        self._timeout = timeout
        self._compact = disable_any_whitespace
        self._workers = Workers("quire-grammar", num_threads, MAX_THREADS, PATIENCE_S)
        self._vocabulary: Vocabulary | None = None
        self._loading: Job | None = None
        # Compiled grammars, and why others could not be, by constraint; oldest first.
        self._cache: OrderedDict[bytes, Compiled | str] = OrderedDict()
        self._waiting: dict[bytes, tuple[StructuredOutputsParams, list[GrammarState]]] = {}
        self._compiling: dict[Job, bytes] = {}
        self._advancing: dict[Job, GrammarState] = {}
        self._num_awaited = 0  # of these, the ones that are not slow
        self._changed: list[GrammarState] = []

    # --- sequences ---

    def open(
        self, params: StructuredOutputsParams, delivered: Sequence[list[int]]
    ) -> list[GrammarState]:
        """States for sequences that begin, or resume with tokens delivered before.

        One that is not READY at once will be in `news` when it is, or when it has failed.
        """
        states = [GrammarState(list(tokens)) for tokens in delivered]
        try:
            key = constraint_key(params)
        except RequestError as error:
            self._begin(states, _unusable(error))
            return states
        if key in self._cache:
            self._cache.move_to_end(key)
            self._begin(states, self._cache[key])
        elif key in self._waiting:
            self._waiting[key][1].extend(states)
        else:
            self._waiting[key] = (params, states)
            self._compile(key)
        return states

    def advance(self, state: GrammarState, token_ids: list[int]) -> None:
        """Take in a READY sequence's new tokens. Its state is then COMPLETE, FAILED, or BUSY
        with what may follow; if its last step was slow it is BUSY with all of it."""
        matcher = state.matcher
        assert matcher is not None
        assert state.ready, f"a token came while the grammar was {state.status.value}"
        state.mask = None
        if state.slow:
            return self._submit_step(state, matcher, token_ids)
        before = time.perf_counter()
        try:
            matcher.consume(token_ids)
        except GrammarError as error:
            return state.fail(_lost(error))
        state.slow = time.perf_counter() - before > SLOW_S
        if matcher.complete:
            state.status = GrammarStatus.COMPLETE
            return None
        return self._submit_step(state, matcher, [])

    def release(self, state: GrammarState) -> None:
        """The sequence has ended: whatever is still computed for it is dropped."""
        state.status, state.matcher = GrammarStatus.COMPLETE, None

    # --- what the workers have done ---

    def news(self) -> list[GrammarState]:
        """Sequences that are no longer COMPILING or BUSY since the last call."""
        while (job := self._workers.done()) is not None:
            self._take(job)
        if self._advancing or self._compiling or self._loading is not None:
            self._expire(time.monotonic())
            self._workers.tend()
        changed, self._changed = self._changed, []
        return changed

    def settle(self, timeout: float) -> None:
        """Wait for the sequences that are BUSY and not known to be slow."""
        deadline = time.monotonic() + timeout
        while self._num_awaited and (left := deadline - time.monotonic()) > 0:
            job = self._workers.done(left)
            if job is not None:
                self._take(job)

    def wait(self, timeout: float) -> None:
        """Wait until a worker has done something, if any is at work."""
        if not self._changed and (self._advancing or self._compiling or self._loading):
            job = self._workers.done(timeout)
            if job is not None:
                self._take(job)

    def close(self) -> None:
        """End the threads. Nothing may be called afterwards."""
        self._workers.close()

    # --- compiling ---

    def _compile(self, key: bytes) -> None:
        vocabulary = self._vocabulary
        if vocabulary is None:
            if self._loading is None:
                self._loading = Job(self._load_vocabulary)
                self._workers.submit(self._loading)
            return
        params = self._waiting[key][0]
        job = Job(lambda: _compile(params, vocabulary, self._compact))
        self._compiling[job] = key
        self._workers.submit(job)

    def _begin(self, states: list[GrammarState], compiled: Compiled | str) -> None:
        """A grammar is there, or cannot be: start those that wait for it."""
        for state in states:
            if state.status is not GrammarStatus.COMPILING:
                continue  # released meanwhile
            if isinstance(compiled, str):
                state.fail(compiled)
                continue
            state.matcher = compiled.matcher.copy()
            if state.delivered:
                self._submit_step(state, state.matcher, state.delivered)
            elif compiled.first_mask is None:
                state.status = GrammarStatus.COMPLETE
            else:
                state.status, state.mask = GrammarStatus.READY, compiled.first_mask

    def _settle_grammar(self, key: bytes, compiled: Compiled | str) -> None:
        self._cache[key] = compiled
        if len(self._cache) > CACHED_GRAMMARS:
            self._cache.popitem(last=False)
        states = self._waiting.pop(key)[1]
        self._begin(states, compiled)
        self._changed += [s for s in states if s.status is not GrammarStatus.BUSY]

    # --- steps ---

    def _submit_step(self, state: GrammarState, matcher: Matcher, token_ids: list[int]) -> None:
        job = Job(lambda: _step(matcher, token_ids))
        state.status = GrammarStatus.BUSY
        self._advancing[job] = state
        if not state.slow:
            self._num_awaited += 1
        self._workers.submit(job)

    def _drop_step(self, job: Job) -> GrammarState:
        state = self._advancing.pop(job)
        if not state.slow:
            self._num_awaited -= 1
        return state

    # --- results ---

    def _take(self, job: Job) -> None:
        if job is self._loading:
            self._take_vocabulary(job)
        elif job in self._compiling:
            key = self._compiling.pop(job)
            self._settle_grammar(key, _unusable(job.error) if job.error else job.result)
        elif job in self._advancing:
            self._take_step(self._drop_step(job), job)

    def _take_vocabulary(self, job: Job) -> None:
        self._loading = None
        if job.error is None:
            self._vocabulary = job.result
            for key in list(self._waiting):
                self._compile(key)
            return
        for _, states in self._waiting.values():
            self._begin(states, f"structured outputs are not available: {one_line(job.error)}")
            self._changed += states
        self._waiting.clear()

    def _take_step(self, state: GrammarState, job: Job) -> None:
        if state.status is not GrammarStatus.BUSY:
            return  # released meanwhile
        state.slow = job.cpu_seconds > SLOW_S
        if job.error is not None:
            state.fail(_lost(job.error))
        elif job.result is None:
            state.status = GrammarStatus.COMPLETE
        else:
            state.status, state.mask = GrammarStatus.READY, job.result
        self._changed.append(state)

    def _expire(self, now: float) -> None:
        """Give up what has taken too long; the thread at work on it is left behind."""
        late = now - self._timeout
        limit = f"the time limit of {self._timeout:g} s; simplify it"
        for job in [j for j in self._compiling if j.started is not None and j.started < late]:
            key = self._compiling.pop(job)
            self._settle_grammar(key, f"the grammar could not be compiled within {limit}")
        for job in [j for j in self._advancing if j.started is not None and j.started < late]:
            state = self._drop_step(job)
            if state.status is GrammarStatus.BUSY:
                state.fail(f"the grammar's next tokens could not be computed within {limit}")
                self._changed.append(state)


def _compile(params: StructuredOutputsParams, vocabulary: Vocabulary, compact: bool) -> Compiled:
    """In a worker: the grammar and its first mask."""
    grammar = grammar_of(params, vocabulary.special_tokens, compact)
    matcher = Matcher.compile(grammar, vocabulary)
    # The matcher that made a mask keeps what it learned, so copies begin with it.
    return Compiled(matcher, matcher.next_mask())


def _step(matcher: Matcher, token_ids: list[int]) -> np.ndarray | None:
    """In a worker: tokens in, the mask of what may follow; None if only the end may."""
    matcher.consume(token_ids)
    return None if matcher.complete else matcher.next_mask()


def _unusable(error: BaseException) -> str:
    return f"the grammar cannot be used: {one_line(error)}"


def _lost(error: BaseException) -> str:
    return f"the grammar could not be followed: {one_line(error)}"
