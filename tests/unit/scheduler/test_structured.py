"""Sequences with grammars among others: held back, passed, ended, never in anybody's way."""

import random

import numpy as np
import pytest

from quire.core.structured_outputs import StructuredOutputsParams
from quire.structured.state import GrammarState, GrammarStatus

CHOICE = StructuredOutputsParams(choice=["a"])


class ManualGrammars:
    """Grammars whose progress the test decides. `lengths`: after so many tokens it is complete."""

    def __init__(self, lengths=100, at_once=True, linger=0) -> None:
        self.lengths = lengths
        self.at_once = at_once
        self.linger = linger  # turns that a mask takes
        self.states: list[GrammarState] = []
        self.num_tokens: dict[GrammarState, int] = {}
        self.busy: dict[GrammarState, int] = {}
        self.changed: list[GrammarState] = []
        self.released: list[GrammarState] = []

    def open(self, params, delivered):
        states = [GrammarState(list(tokens)) for tokens in delivered]
        for state in states:
            self.num_tokens[state] = len(state.delivered)
            if self.at_once:
                self.ready(state)
        self.states += states
        return states

    def ready(self, state) -> None:
        state.status = GrammarStatus.READY
        state.mask = np.full(1, self.num_tokens[state], dtype=np.int32)
        self.changed.append(state)

    def fail(self, state, error) -> None:
        state.fail(error)
        self.changed.append(state)

    def advance(self, state, token_ids) -> None:
        assert state.ready, "a token came that no mask had allowed"
        self.num_tokens[state] += len(token_ids)
        state.mask = None
        if self.num_tokens[state] >= self.lengths:
            state.status = GrammarStatus.COMPLETE
        elif self.linger:
            state.status = GrammarStatus.BUSY
            self.busy[state] = self.linger
        else:
            self.ready(state)

    def news(self):
        for state in list(self.busy):
            self.busy[state] -= 1
            if not self.busy[state]:
                del self.busy[state]
                self.ready(state)
        changed, self.changed = self.changed, []
        return changed

    def release(self, state) -> None:
        self.busy.pop(state, None)
        self.released.append(state)

    def settle(self, timeout) -> None:
        pass

    def wait(self, timeout) -> None:
        pass

    def close(self) -> None:
        pass


def test_others_pass_and_the_place_is_kept(bench) -> None:
    grammars = ManualGrammars(at_once=False)
    it = bench(max_num_seqs=1, grammars=grammars)
    it.add("a", structured_outputs=CHOICE)
    it.add("b", max_tokens=3)
    it.add("c", max_tokens=3)
    it.step()
    assert list(it.output) == [("b", 0)]
    assert it.scheduler.stats().num_waiting == 2
    grammars.ready(grammars.states[0])
    while ("c", 0) not in it.output:
        it.step()
    assert it.finished[("a", 0)] == "length", "it came before c, which was added later"
    it.run()


def test_masks_are_of_the_known_prefix(bench) -> None:
    grammars = ManualGrammars()
    it = bench(budget=4, depth=1, grammars=grammars)
    it.add("a", range(10), max_tokens=3, structured_outputs=CHOICE)
    masks, samples = [], []
    while it.scheduler.has_work():
        plan = it.step()
        if plan is not None:
            masks.append({i: int(mask[0]) for i, mask in plan.masks.items()})
            samples.append(plan.samples)
    assert masks == [{}, {}, {0: 0}, {0: 1}, {0: 2}], "none before the prompt is computed"
    assert [any(s) for s in samples] == [False, False, True, True, True]


def test_it_sits_out_while_others_step(bench) -> None:
    grammars = ManualGrammars(linger=3)
    it = bench(grammars=grammars)
    it.add("a", max_tokens=4, structured_outputs=CHOICE)
    it.add("b", max_tokens=12)
    it.run()
    steps = {key: len(deltas) for key, deltas in it.deltas.items()}
    assert steps == {("a", 0): 4, ("b", 0): 12}
    assert it.output["b", 0] == it.alone("b")[0]
    assert it.num_steps == 12


@pytest.mark.parametrize("depth", [0, 1])
def test_a_complete_grammar_ends_the_sequence_with_its_last_token(bench, depth) -> None:
    grammars = ManualGrammars(lengths=3)
    it = bench(depth=depth, grammars=grammars)
    it.add("a", max_tokens=50, structured_outputs=CHOICE, n=2, temperature=1.0)
    it.add("b", max_tokens=9)
    it.run()
    for index in (0, 1):
        *tokens, last = it.deltas["a", index]
        assert [len(d.token_ids) for d in tokens] == [1, 1, 1]
        assert (last.token_ids, last.finish_reason, last.error) == ([], "stop", None)
    assert it.output["b", 0] == it.alone("b")[0]
    assert set(grammars.released) == set(grammars.states)


def test_a_grammar_that_cannot_be_used(bench) -> None:
    grammars = ManualGrammars(at_once=False)
    it = bench(grammars=grammars)
    it.add("a", structured_outputs=CHOICE, n=2, temperature=1.0)
    it.add("b", max_tokens=9)
    it.step()
    for state in grammars.states:
        grammars.fail(state, "too complex")
    it.run()
    assert [it.finished["a", i] for i in (0, 1)] == ["error", "error"]
    assert [it.deltas["a", i][-1].error for i in (0, 1)] == ["too complex"] * 2
    assert it.output["b", 0] == it.alone("b")[0]


def test_without_grammars(bench) -> None:
    it = bench()
    it.add("a", structured_outputs=CHOICE)
    it.run()
    assert "need a tokenizer" in it.deltas["a", 0][-1].error


def test_abort_while_held(bench) -> None:
    grammars = ManualGrammars(at_once=False)
    it = bench(grammars=grammars)
    it.add("a", structured_outputs=CHOICE)
    it.add("b")
    it.step()
    it.abort("a")
    it.run()
    assert it.finished["a", 0] == "abort"
    grammars.ready(grammars.states[0])  # its compilation ends after all
    it.add("c")
    it.run()


@pytest.mark.parametrize("depth", [0, 1])
@pytest.mark.parametrize("seed", range(6))
def test_preemptions_aborts_and_slow_masks(bench, depth, seed) -> None:
    """Random traces on few pages: every sequence ends as it would alone, or as told."""
    choose = random.Random(seed)
    grammars = ManualGrammars(lengths=12, linger=choose.choice([0, 1, 3]))
    it = bench(num_pages=9, page_size=4, max_num_seqs=4, depth=depth, grammars=grammars)
    aborted = set()
    for i in range(16):
        constrained = choose.random() < 0.6
        it.add(
            f"r{i}",
            [choose.randrange(50) for _ in range(choose.randint(1, 12))],
            max_tokens=choose.randint(1, 20),
            structured_outputs=CHOICE if constrained else None,
        )
        for _ in range(choose.randint(0, 3)):
            it.step()
        if choose.random() < 0.1:
            it.abort(f"r{i}")
            aborted.add(f"r{i}")
    it.run()
    assert it.scheduler.stats().num_preemptions > 0
    for (name, index), output in it.output.items():
        if name in aborted:
            continue
        alone, reason = it.alone(name)
        if it.messages[name].params.structured_outputs is not None and len(alone) > 12:
            alone, reason = alone[:12], "stop"
        elif it.messages[name].params.structured_outputs is not None and len(alone) == 12:
            reason = it.finished[name, index]
        assert output == alone
        assert it.finished[name, index] == reason
