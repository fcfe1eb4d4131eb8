"""When an engine counts as stuck, and how long until the next one starts."""

import asyncio

import pytest

from quire.core.messages import EngineStats, StepOutputs
from quire.engine.supervisor import Backoff, RestartPolicy, StepWatch, describe_exit


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def outputs(num_running: int, num_received: int, num_waiting: int = 0) -> StepOutputs:
    return StepOutputs([], EngineStats(num_running, num_waiting, 0.0, 0, 0, 0, 0), num_received)


def test_age_counts_only_while_there_is_work() -> None:
    async def scenario() -> None:
        clock = Clock()
        steps = StepWatch(1000.0, lambda age: None, clock)
        assert steps.age() is None
        steps.sent()
        clock.now += 5
        assert steps.age() == 5
        steps.sent()  # more work is not a step
        assert steps.age() == 5
        steps.stepped(outputs(1, 1))
        assert steps.age() == 0
        clock.now += 3
        steps.stepped(outputs(0, 2, num_waiting=1))
        assert steps.age() == 0
        steps.stepped(outputs(0, 2))
        assert steps.age() is None
        steps.sent()
        steps.sent()
        steps.stepped(outputs(0, 3))  # said before the last one came
        clock.now += 2
        assert steps.age() == 2
        steps.reset()
        assert steps.age() is None

    asyncio.run(scenario())


def test_the_alarm_is_for_work_without_steps() -> None:
    async def scenario() -> None:
        ages: list[float] = []
        steps = StepWatch(0.1, ages.append)
        steps.sent()
        for _ in range(4):
            await asyncio.sleep(0.05)
            steps.stepped(outputs(1, 1))
        assert ages == []
        await asyncio.sleep(0.25)
        assert len(ages) == 1
        assert 0.1 <= ages[0] < 0.25
        steps.reset()
        steps.sent()
        steps.stepped(outputs(0, 1))
        await asyncio.sleep(0.15)
        assert len(ages) == 1

    asyncio.run(scenario())


def test_delays_double_and_start_again_after_a_healthy_life() -> None:
    clock = Clock()
    backoff = Backoff(RestartPolicy(), clock)
    delays = []
    for _ in range(9):
        backoff.ready()
        clock.now += 1
        delays.append(backoff.died())
    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0])
    backoff.ready()
    clock.now += 61
    assert backoff.died() == 0.1


def test_starts_that_fail_in_a_row_are_given_up() -> None:
    backoff = Backoff(RestartPolicy(max_failed_starts=3))
    assert [backoff.died() for _ in range(3)] == [0.1, 0.2, None]
    backoff = Backoff(RestartPolicy(max_failed_starts=3))
    backoff.died()
    backoff.died()
    backoff.ready()
    assert backoff.died() is not None
    assert backoff.died() is not None


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (1, "exit status 1"),
        (-9, "killed by SIGKILL; out of memory, if nobody sent it"),
        (-11, "killed by SIGSEGV"),
        (-63, "killed by signal 63"),
    ],
)
def test_exits_in_words(status: int, words: str) -> None:
    assert describe_exit(status) == words
