"""Grammars in their threads: shared, timed, and without harm to each other."""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from quire.core.errors import RequestError
from quire.core.structured_outputs import StructuredOutputsParams
from quire.structured import grammars as module
from quire.structured.grammars import Grammars
from quire.structured.state import GrammarStatus
from quire.structured.vocabulary import Vocabulary
from quire.structured.workers import Job, Workers
from quire.text.tokenizer import Tokenizer

DIGITS = StructuredOutputsParams(regex="[0-9]{2}-[0-9]")
WORDS = StructuredOutputsParams(choice=["hello", "world"])


def test_a_sequence_from_beginning_to_end(
    grammars: Grammars, tokenizer: Tokenizer, until: Callable[..., None]
) -> None:
    (state,) = grammars.open(DIGITS, [[]])
    assert state.status is GrammarStatus.COMPILING
    until(grammars, lambda: state.ready)
    for token_id in tokenizer.encode("12-"):
        assert state.mask is not None
        assert state.mask[token_id // 32] >> (token_id % 32) & 1
        grammars.advance(state, [token_id])
        until(grammars, lambda: state.ready)
    grammars.advance(state, tokenizer.encode("3"))
    assert state.status is GrammarStatus.COMPLETE


def test_what_is_known_is_ready_at_once(grammars: Grammars, until: Callable[..., None]) -> None:
    first, second = grammars.open(DIGITS, [[], []])
    until(grammars, lambda: first.ready and second.ready)
    (third,) = grammars.open(StructuredOutputsParams(regex=DIGITS.regex), [[]])
    assert third.ready
    assert third.mask is first.mask
    assert third.matcher is not first.matcher


def test_one_compilation_for_all_who_wait(
    grammars: Grammars, monkeypatch: pytest.MonkeyPatch, until: Callable[..., None]
) -> None:
    calls: list[object] = []
    original = module._compile

    def counted(*args: Any) -> Any:
        calls.append(args[0])
        return original(*args)

    monkeypatch.setattr(module, "_compile", counted)
    states = [grammars.open(DIGITS, [[]])[0] for _ in range(5)]
    until(grammars, lambda: all(s.ready for s in states))
    assert calls == [DIGITS]


def test_resuming_takes_in_what_was_delivered(
    grammars: Grammars, tokenizer: Tokenizer, until: Callable[..., None]
) -> None:
    ids = tokenizer.encode("12-")
    (walked,) = grammars.open(DIGITS, [[]])
    until(grammars, lambda: walked.ready)
    for token_id in ids:
        grammars.advance(walked, [token_id])
        until(grammars, lambda: walked.ready)
    resumed, done, wrong = grammars.open(
        DIGITS, [ids, tokenizer.encode("12-3"), tokenizer.encode("x")]
    )
    statuses = (GrammarStatus.COMPILING, GrammarStatus.BUSY)
    until(grammars, lambda: not any(s.status in statuses for s in (resumed, done, wrong)))
    assert walked.mask is not None
    assert np.array_equal(resumed.mask, walked.mask)
    assert done.status is GrammarStatus.COMPLETE
    assert wrong.status is GrammarStatus.FAILED
    assert wrong.error is not None
    assert "could not be followed" in wrong.error


def test_the_time_limit_ends_one_grammar_alone(
    vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch, until: Callable[..., None]
) -> None:
    """With a single thread stuck in it: the others' grammars get another."""
    release = threading.Event()
    original = module._compile

    def stuck(params: StructuredOutputsParams, *args: Any) -> Any:
        if params is DIGITS:
            release.wait(20)
        return original(params, *args)

    monkeypatch.setattr(module, "_compile", stuck)
    grammars = Grammars(lambda: vocabulary, timeout=0.4, num_threads=1)
    try:
        (slow,) = grammars.open(DIGITS, [[]])
        (quick,) = grammars.open(WORDS, [[]])
        started = time.monotonic()
        until(grammars, lambda: quick.ready)
        assert time.monotonic() - started < 0.35
        assert slow.status is GrammarStatus.COMPILING
        until(grammars, lambda: slow.status is GrammarStatus.FAILED)
        assert slow.error == (
            "the grammar could not be compiled within the time limit of 0.4 s; simplify it"
        )
        (again,) = grammars.open(DIGITS, [[]])
        assert again.status is GrammarStatus.FAILED, "it was to be refused at once"
    finally:
        release.set()
        grammars.close()


def test_a_slow_step_is_not_waited_for(
    grammars: Grammars,
    tokenizer: Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
    until: Callable[..., None],
) -> None:
    (slow,) = grammars.open(DIGITS, [[]])
    (quick,) = grammars.open(WORDS, [[]])
    until(grammars, lambda: slow.ready and quick.ready)
    original = module._step
    slow_matcher = slow.matcher

    def burning(matcher: Any, token_ids: list[int]) -> Any:
        end = time.thread_time() + 0.02
        while matcher is slow_matcher and time.thread_time() < end:
            time.sleep(0)
        return original(matcher, token_ids)

    monkeypatch.setattr(module, "_step", burning)
    first, second = tokenizer.encode("12")[:1], tokenizer.encode("2")
    grammars.advance(slow, first)
    until(grammars, lambda: slow.ready)
    assert slow.slow
    grammars.advance(slow, second)
    grammars.advance(quick, tokenizer.encode("hello")[:1])
    started = time.monotonic()
    grammars.settle(5.0)
    assert time.monotonic() - started < 1.0
    assert slow.status is GrammarStatus.BUSY
    assert quick.status in (GrammarStatus.READY, GrammarStatus.COMPLETE)
    until(grammars, lambda: slow.ready)


def test_a_step_beyond_the_time_limit(
    grammars: Grammars, monkeypatch: pytest.MonkeyPatch, until: Callable[..., None]
) -> None:
    (state,) = grammars.open(DIGITS, [[]])
    until(grammars, lambda: state.ready)
    release = threading.Event()
    monkeypatch.setattr(module, "_step", lambda *_: release.wait(20))
    grammars.advance(state, [int(np.flatnonzero(np.unpackbits(
        state.mask.view(np.uint8), bitorder="little"))[0])])  # fmt: skip
    until(grammars, lambda: state.status is GrammarStatus.FAILED)
    release.set()
    assert state.error is not None
    assert "within the time limit of 0.5 s" in state.error


def test_failures_stay_their_own(
    grammars: Grammars, monkeypatch: pytest.MonkeyPatch, until: Callable[..., None]
) -> None:
    class Panic(BaseException):
        """What a panic of a native library looks like."""

    original = module._compile

    def panicking(params: StructuredOutputsParams, *args: Any) -> Any:
        if params is DIGITS:
            raise Panic("index out of bounds")
        return original(params, *args)

    monkeypatch.setattr(module, "_compile", panicking)
    (bad,) = grammars.open(DIGITS, [[]])
    (good,) = grammars.open(WORDS, [[]])
    (nonsense,) = grammars.open(StructuredOutputsParams(json={"a": object()}), [[]])
    assert nonsense.status is GrammarStatus.FAILED
    until(grammars, lambda: good.ready and bad.status is GrammarStatus.FAILED)
    assert bad.error == "the grammar cannot be used: index out of bounds"


def test_without_a_vocabulary(until: Callable[..., None]) -> None:
    def load() -> Vocabulary:
        raise RequestError("no pieces of text")

    grammars = Grammars(load)
    states = [grammars.open(p, [[]])[0] for p in (DIGITS, WORDS)]
    until(grammars, lambda: all(s.status is GrammarStatus.FAILED for s in states))
    assert states[0].error == "structured outputs are not available: no pieces of text"
    grammars.close()


def test_released_states_are_left_alone(grammars: Grammars, until: Callable[..., None]) -> None:
    kept, dropped = grammars.open(DIGITS, [[], []])
    grammars.release(dropped)
    until(grammars, lambda: kept.ready)
    assert dropped.matcher is None
    grammars.release(kept)
    assert grammars.news() == []


def test_threads_end() -> None:
    workers = Workers("test-worker", num_threads=2, max_threads=4, patience=0.05)
    release = threading.Event()
    for _ in range(6):
        workers.submit(Job(lambda: release.wait(20)))
    deadline = time.monotonic() + 2
    while alive("test-worker") < 4 and time.monotonic() < deadline:
        time.sleep(0.03)
        workers.tend()
    assert alive("test-worker") == 4, "stuck threads are replaced, up to a bound"
    release.set()
    for _ in range(6):
        job = workers.done(2.0)
        assert job is not None
        assert job.result
    workers.close()
    deadline = time.monotonic() + 2
    while alive("test-worker") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert alive("test-worker") == 0


def alive(name: str) -> int:
    return sum(thread.name.startswith(name) for thread in threading.enumerate())


def test_vocabulary_without_ends_or_with_ends_beyond_it(tokenizer: Tokenizer) -> None:
    def with_ends(eos: tuple[int, ...]) -> Vocabulary:
        return Vocabulary([b"a", b"b", b""], {}, eos, lambda text: [0] * len(text))

    assert with_ends((1, 99)).eos_token_ids == (1,)
    assert with_ends(()).eos_token_ids == ()
