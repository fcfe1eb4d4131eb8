"""Admission on a clock of the test's own: bounds, limits of a key, fair shares, estimates."""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import pytest

from quire.server.admission import (
    MIN_RETRY,
    UNKNOWN_RETRY,
    EngineRoom,
    FairAdmission,
    RequestFacts,
    Seat,
)
from quire.server.config import ApiKey, ServerConfig
from quire.server.errors import TooBusyError

ALICE, BOB = ApiKey("alice", "a"), ApiKey("bob", "b")


class World:
    """A clock, an engine of a given size, and the admission in front of it."""

    def __init__(self, config: ServerConfig, max_num_seqs: int = 2, **more: Any) -> None:
        self.now = 0.0
        self.engine_waits = 0
        self.known = True
        self.max_num_seqs = max_num_seqs
        self.admission = FairAdmission(config, self.room, clock=lambda: self.now, **more)

    def room(self) -> EngineRoom | None:
        return EngineRoom(self.max_num_seqs, self.engine_waits) if self.known else None

    async def admit(self, key: str | None = None, **facts: Any) -> Seat:
        known = {"num_prompt_tokens": 10, "num_sequences": 1, "max_tokens": 100, "priority": 0}
        return await self.admission.admit(RequestFacts(key=key, **{**known, **facts}))


def go(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 10))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_without_limits_everybody_enters_at_once() -> None:
    async def scene() -> None:
        world = World(ServerConfig(), max_num_seqs=1)
        for _ in range(500):
            await world.admit()
        assert world.admission.num_waiting == 0

    go(scene())


def test_who_need_not_wait_enters_without_a_turn_of_the_loop() -> None:
    async def scene() -> None:
        world = World(ServerConfig(api_keys=(ALICE, BOB)), max_num_seqs=2)
        facts = RequestFacts("alice", 10, 1, 100, 0)
        permits = [world.admission.admit_at_once(facts) for _ in range(4)]
        assert None not in permits
        assert world.admission.admit_at_once(facts) is None
        waiting = asyncio.ensure_future(world.admit("bob"))
        await settle()
        permits[0].release(10)
        await settle()
        assert waiting.done()
        permits[1].release(10)
        assert world.admission.admit_at_once(facts) is not None

    go(scene())


def test_the_queue_is_bounded() -> None:
    async def scene() -> None:
        world = World(ServerConfig(max_queue=3), max_num_seqs=2)
        permits = [await world.admit() for _ in range(5)]  # two run, three wait
        with pytest.raises(TooBusyError, match="3 requests are waiting, and --max-queue allows 3"):
            await world.admit()
        permits.pop().release(5)
        await world.admit()

    go(scene())


def test_no_queue_at_all() -> None:
    async def scene() -> None:
        world = World(ServerConfig(max_queue=0), max_num_seqs=2)
        first = await world.admit()
        await world.admit()
        with pytest.raises(TooBusyError) as refused:
            await world.admit()
        assert refused.value.retry_after == UNKNOWN_RETRY
        first.release(1)
        await world.admit()

    go(scene())


def test_what_waits_in_the_engine_counts() -> None:
    """Short of KV pages it runs less than it has rows for."""

    async def scene() -> None:
        world = World(ServerConfig(max_queue=2), max_num_seqs=100)
        await world.admit()
        world.engine_waits = 2
        with pytest.raises(TooBusyError, match="2 requests are waiting"):
            await world.admit()
        world.engine_waits = 1
        await world.admit()

    go(scene())


def test_waiting_tokens_are_bounded() -> None:
    async def scene() -> None:
        config = ServerConfig(max_queue_tokens=25)
        world = World(config, max_num_seqs=1)
        running = [await world.admit() for _ in range(3)]
        waiting = [asyncio.ensure_future(world.admit()) for _ in range(2)]
        await settle()
        assert world.admission.num_waiting == 2
        with pytest.raises(TooBusyError, match="20 prompt tokens are waiting"):
            await world.admit()
        for permit in running:
            permit.release(1)
        await asyncio.gather(*waiting)

    go(scene())


def test_before_the_engine_is_known_nothing_is_refused() -> None:
    async def scene() -> None:
        world = World(ServerConfig(max_queue=0, api_keys=(ALICE, BOB)))
        world.known = False
        await world.admit("alice")
        await world.admit("alice")

    go(scene())


def test_retry_after_is_measured() -> None:
    """The engine ends a request every two seconds; five wait and one runs."""

    async def scene() -> None:
        world = World(ServerConfig(max_queue=5), max_num_seqs=1)
        world.now = 1000.0  # idle for long: no service time
        permits = [await world.admit() for _ in range(6)]
        for _ in range(10):
            world.now += 2.0
            permits.pop(0).release(20)
            permits.append(await world.admit())
        with pytest.raises(TooBusyError) as refused:
            await world.admit()
        assert refused.value.retry_after == pytest.approx(12.0)

    go(scene())


def test_a_key_has_so_many_at_once() -> None:
    async def scene() -> None:
        config = ServerConfig(max_concurrent_per_key=2, api_keys=(ALICE, BOB))
        world = World(config, max_num_seqs=10)
        first = await world.admit("alice")
        await world.admit("alice")
        with pytest.raises(TooBusyError, match="2 requests of this API key are unfinished"):
            await world.admit("alice")
        await world.admit("bob")
        first.release(3)
        await world.admit("alice")

    go(scene())


def test_requests_per_minute() -> None:
    async def scene() -> None:
        world = World(ServerConfig(requests_per_minute=6, api_keys=(ALICE, BOB)), max_num_seqs=99)
        for _ in range(6):
            (await world.admit("alice")).release(1)
        with pytest.raises(TooBusyError, match="6 requests of this minute") as refused:
            await world.admit("alice")
        assert refused.value.retry_after == pytest.approx(10.0)
        await world.admit("bob")
        world.now += 9.9
        with pytest.raises(TooBusyError) as refused:
            await world.admit("alice")
        assert refused.value.retry_after == MIN_RETRY
        world.now += 0.2
        await world.admit("alice")

    go(scene())


def test_tokens_per_minute_count_prompt_and_answer() -> None:
    async def scene() -> None:
        world = World(ServerConfig(tokens_per_minute=600), max_num_seqs=99)
        permit = await world.admit(num_prompt_tokens=100)
        permit.release(700)  # overdrawn by 200: 10 tokens a second
        with pytest.raises(TooBusyError, match="600 tokens of this minute") as refused:
            await world.admit(num_prompt_tokens=100)
        assert refused.value.retry_after == pytest.approx(30.0)
        world.now += 30.0
        await world.admit(num_prompt_tokens=100)
        world.now += 1000.0  # a prompt larger than the limit needs all of it, and gets it
        await world.admit(num_prompt_tokens=5000)

    go(scene())


async def _contend(world: World, wanted: dict[str, int], steps: int) -> Counter[str]:
    """Keys that always have requests waiting; the oldest ends each step. Who got in how often."""
    served: Counter[str] = Counter()
    order: list[tuple[str, Seat]] = []

    async def client(key: str, tokens: int) -> None:
        while True:
            permit = await world.admit(key, num_prompt_tokens=tokens, max_tokens=tokens)
            served[key] += 2 * tokens
            order.append((key, permit))
            await asyncio.sleep(0)

    clients = [
        asyncio.ensure_future(client(key, tokens))
        for key, tokens in wanted.items()
        for _ in range(8)
    ]
    for _ in range(steps):
        await settle()
        key, permit = order.pop(0)
        permit.release(wanted[key])
    for task in clients:
        task.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    return served


@pytest.mark.parametrize(
    ("weights", "tokens"),
    [
        ((1.0, 1.0), (10, 10)),
        ((3.0, 1.0), (10, 10)),
        ((1.0, 1.0), (10, 40)),
        ((2.0, 1.0), (40, 10)),
    ],
)
def test_busy_keys_share_tokens_by_weight(
    weights: tuple[float, float], tokens: tuple[int, int]
) -> None:
    async def scene() -> None:
        keys = (ApiKey("alice", "a", weights[0]), ApiKey("bob", "b", weights[1]))
        world = World(ServerConfig(api_keys=keys), max_num_seqs=4)
        served = await _contend(world, {"alice": tokens[0], "bob": tokens[1]}, 600)
        share = served["alice"] / served["bob"]
        assert share == pytest.approx(weights[0] / weights[1], rel=0.1)

    go(scene())


def test_an_idle_key_saves_nothing_up_and_a_flood_does_not_delay_it() -> None:
    async def scene() -> None:
        world = World(ServerConfig(api_keys=(ALICE, BOB)), max_num_seqs=1)
        admission = world.admission
        running = [await world.admit("alice") for _ in range(3)]
        flood = [asyncio.ensure_future(world.admit("alice")) for _ in range(50)]
        await settle()
        bob = [asyncio.ensure_future(world.admit("bob")) for _ in range(2)]
        await settle()
        assert admission.num_waiting == 52
        running.pop().release(10)
        await settle()
        assert bob[0].done(), "a newcomer goes before the flood's backlog"
        assert not bob[1].done()
        running.pop().release(10)
        await settle()
        assert sum(task.done() for task in flood) == 1, "and not before everything"
        for task in (*flood, *bob):
            task.cancel()
        await asyncio.gather(*flood, *bob, return_exceptions=True)

    go(scene())


def test_priorities_go_first_where_the_engine_has_them() -> None:
    async def scene() -> None:
        for by_priority in (True, False):
            config = ServerConfig(api_keys=(ALICE, BOB))
            world = World(config, max_num_seqs=1, by_priority=by_priority)
            running = [await world.admit("alice") for _ in range(3)]
            late = asyncio.ensure_future(world.admit("alice", priority=5))
            await settle()
            urgent = asyncio.ensure_future(world.admit("alice", priority=-5))
            await settle()
            running[0].release(1)
            await settle()
            assert (urgent.done(), late.done()) == (by_priority, not by_priority)
            for permit in running[1:]:
                permit.release(1)
            await asyncio.gather(late, urgent)

    go(scene())


def test_leaving_the_queue_leaves_nothing_behind() -> None:
    async def scene() -> None:
        world = World(ServerConfig(api_keys=(ALICE, BOB), max_concurrent_per_key=5), 1)
        running = [await world.admit("alice") for _ in range(3)]
        waiting = [asyncio.ensure_future(world.admit("bob")) for _ in range(5)]
        await settle()
        for task in waiting[:4]:
            task.cancel()
        await settle()
        assert world.admission.num_waiting == 1
        # A seat given in the very moment in which its owner leaves goes to the next.
        last = waiting[4]
        running[0].release(1)
        last.cancel()
        await settle()
        assert last.cancelled()
        for permit in running[1:]:
            permit.release(1)
        world.max_num_seqs = 10
        for _ in range(5):
            await world.admit("bob")
        with pytest.raises(TooBusyError, match="5 requests of this API key"):
            await world.admit("bob")
        assert world.admission.num_waiting == 0

    go(scene())


def test_a_job_larger_than_the_engine_still_runs() -> None:
    async def scene() -> None:
        world = World(ServerConfig(api_keys=(ALICE, BOB)), max_num_seqs=2)
        big = await world.admit("alice", num_sequences=100)
        next_one = asyncio.ensure_future(world.admit("bob"))
        await settle()
        assert not next_one.done()
        big.release(500)
        (await next_one).release(1)
        (await world.admit("bob", num_sequences=100)).release(7)

    go(scene())
