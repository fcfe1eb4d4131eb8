"""What a fresh engine is told, and which request is to blame for a dead one.

The engines here are scripts: sets of ids that kill at once, or after some tokens. What is under
test is bookkeeping; `tests/e2e/test_engine_process.py` has real processes.
"""

import random

import pytest

from quire.core.messages import AbortRequests, AddRequest, SequenceDelta
from quire.core.sampling_params import SamplingParams
from quire.engine.submissions import Submission, Submissions


def add(request_id: str) -> AddRequest:
    return AddRequest(request_id, [1], SamplingParams(), 0, [], 0.0, 16)


def token(request_id: str) -> list[SequenceDelta]:
    return [SequenceDelta(request_id, 0, [5])]


class World:
    """A front end that knows what is unfinished, and what each engine was told."""

    def __init__(self) -> None:
        self.poisoned: dict[str, str] = {}
        self.submissions = Submissions(self._on_poisoned)
        self.unfinished: dict[str, AddRequest] = {}
        self.told: list[str] = []

    def _on_poisoned(self, request: AddRequest, message: str) -> None:
        self.poisoned[request.request_id] = message
        del self.unfinished[request.request_id]

    def _send(self, message: Submission) -> None:
        self.told.append(("-" if isinstance(message, AbortRequests) else "") + message.request_id)

    def add(self, *request_ids: str) -> None:
        for request_id in request_ids:
            self.unfinished[request_id] = add(request_id)
            self.submissions.add(self.unfinished[request_id])

    def abort(self, request_id: str) -> None:
        self.unfinished.pop(request_id, None)
        self.submissions.abort(AbortRequests(request_id))

    def start(self) -> list[str]:
        """The first engine."""
        self.told = []
        self.submissions.engine_ready(self._send, None)
        return self.told

    def restart(self) -> list[str]:
        self.submissions.engine_died()
        return self.ready()

    def ready(self) -> list[str]:
        self.told = []
        self.submissions.engine_ready(self._send, list(self.unfinished.values()))
        return self.told

    def saw(self, request_id: str) -> list[str]:
        if self.submissions.watching:
            self.submissions.saw(token(request_id))
        return self.told


@pytest.fixture
def world() -> World:
    return World()


def test_held_until_there_is_an_engine(world: World) -> None:
    world.add("a", "b", "c")
    world.abort("b")
    assert world.submissions.holding
    assert world.start() == ["a", "c"]
    assert not world.submissions.holding
    world.add("d")
    world.abort("a")
    assert world.told == ["a", "c", "d", "-a"]
    assert not world.submissions.watching


def test_nothing_is_told_twice_after_an_outage(world: World) -> None:
    world.start()
    world.add("a", "b", "c")
    world.submissions.engine_died()
    world.add("d", "e")
    world.abort("b")  # had been submitted
    world.abort("d")  # had not
    world.abort("c")
    world.add("c")  # another request of that name
    assert world.ready() == ["a", "e", "c"]
    assert world.submissions.num_resumed == 1


def test_what_the_front_end_does_not_track_is_not_lost(world: World) -> None:
    world.start()
    world.submissions.engine_died()
    world.submissions.add(add("x"))
    world.submissions.abort(AbortRequests("x", [1]))
    assert world.ready() == ["x", "-x"]


def test_ended_sequences_stay_with_their_request(world: World) -> None:
    world.start()
    world.add("a")
    world.submissions.engine_died()
    world.told = []
    resumed: list[Submission] = [add("a"), AbortRequests("a", [1]), add("b")]
    world.submissions.engine_ready(world._send, resumed)
    assert world.told == ["a", "-a", "b"]


def test_progress_between_deaths_blames_nobody(world: World) -> None:
    world.start()
    world.add("a", "b")
    for _ in range(10):
        assert world.restart() == ["a", "b"]
        world.saw("a")
        world.saw("b")
        assert not world.submissions.watching
    assert world.poisoned == {}
    assert world.submissions.num_resumed == 20


def test_suspects_are_tried_one_at_a_time(world: World) -> None:
    world.start()
    world.add("a", "bad", "c")
    assert world.restart() == ["a", "bad", "c"]
    assert world.restart() == ["a"]  # two deaths each: "a" alone
    world.add("new")  # not mixed up with a trial
    world.abort("c")
    assert world.told == ["a"]
    assert world.saw("a") == ["a", "bad"]
    # It dies again: of "bad", as "a" has a token and nobody else was there.
    assert world.restart() == ["a", "new"]
    assert world.poisoned == {"bad": "the engine died 3 times while running this request"}
    assert not world.submissions.watching


def test_a_suspect_that_leaves_makes_room(world: World) -> None:
    world.start()
    world.add("a", "b", "c")
    world.restart()
    assert world.restart() == ["a"]
    world.abort("b")
    world.abort("a")
    assert world.told == ["a", "-a", "c"]
    world.submissions.saw([SequenceDelta("c", 0, [], "error", error="does not fit")])
    world.add("d")
    assert world.told == ["a", "-a", "c", "d"]
    assert not world.submissions.holding


def test_giving_up_ends_everything_once(world: World) -> None:
    world.start()
    world.add("a")
    world.submissions.engine_died()
    world.add("b")
    world.submissions.add(add("untracked"))
    world.unfinished["untracked"] = add("untracked")
    world.submissions.give_up(list(world.unfinished.values()), "over")
    assert world.poisoned == dict.fromkeys(("a", "b", "untracked"), "over")


@pytest.mark.parametrize("seed", range(30))
def test_only_the_guilty_end_with_an_error(seed: int) -> None:
    """Whatever the order: requests that kill any engine once they have had k tokens end by
    poisoning, all others get all their tokens, and each engine is told each request once."""
    rng = random.Random(seed)
    world = World()
    ids = [f"r{i}" for i in range(rng.randint(2, 12))]
    guilty = {i: rng.randint(0, 3) for i in rng.sample(ids, rng.randint(0, 2))}
    need = {i: rng.randint(1, 8) for i in ids}
    have = dict.fromkeys(ids, 0)
    world.start()
    waiting = ids.copy()
    for _ in range(2000):
        if waiting and rng.random() < 0.5:
            world.add(waiting.pop(0))
        assert len(set(world.told)) == len(world.told)
        running = [i for i in world.told if i in world.unfinished]
        if any(have[i] == guilty.get(i) for i in running):
            world.restart()  # the engine's step dies before anyone gets a token
            continue
        for request_id in running:
            have[request_id] += 1
            if have[request_id] >= need[request_id] and request_id not in guilty:
                del world.unfinished[request_id]
            world.saw(request_id)
        if not waiting and not world.unfinished:
            break
    assert set(world.poisoned) == set(guilty)
    assert not waiting
    assert world.unfinished == {}
