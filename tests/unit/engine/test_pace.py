"""How long a step may wait to be planned, on a clock of the test's own."""

import pytest

from quire.engine.pace import Pace


class Device:
    """Steps of `takes` seconds, the next one queued when `pace` says so, in `planning` seconds."""

    def __init__(self, takes: float, planning: float) -> None:
        self.now = 0.0
        self.takes, self.planning = takes, planning
        self.waited = 0.0
        self.pace = Pace(lambda: self.now)
        self.pace.queued(planning, decodes=True, late=False)
        self.ends = takes  # of the running step

    def run(self, steps: int, count: int = 4, *, decodes: bool = True) -> list[float]:
        """How long each step could be waited with; `waited` says how long the device had to."""
        lefts = []
        for _ in range(steps):
            left = self.pace.left(count)
            lefts.append(left)
            self.now += left + self.planning
            self.pace.queued(self.planning, decodes=decodes, late=self.now > self.ends)
            self.waited += max(0.0, self.now - self.ends)
            self.now = max(self.ends, self.now)  # its result is taken, the next begins
            self.pace.ended(count if decodes else None)
            self.ends = self.now + self.takes
        return lefts


def test_steady_steps_are_planned_late_and_never_too_late() -> None:
    device = Device(takes=0.005, planning=0.001)
    lefts = device.run(100)
    assert lefts[0] == 0.0  # nothing is known yet
    assert min(lefts[3:]) > 0.003
    assert device.waited == 0.0


def test_a_pause_is_no_step() -> None:
    device = Device(takes=0.005, planning=0.001)
    device.run(20)
    device.now += 60.0
    device.pace.woke()
    device.ends = device.now + device.takes
    device.run(50)
    assert device.waited == 0.0


def test_short_steps_are_planned_at_once() -> None:
    device = Device(takes=0.0012, planning=0.001)
    assert max(device.run(50)) == 0.0


def test_with_nothing_but_prompts_steps_are_planned_at_once() -> None:
    device = Device(takes=0.05, planning=0.001)
    assert max(device.run(20, decodes=False)) == 0.0


def test_a_step_with_prompts_takes_at_least_as_long_as_one_without() -> None:
    device = Device(takes=0.005, planning=0.001)
    before = device.run(20)[-1]
    device.takes = device.planning = 0.015
    device.ends = device.now + device.takes
    assert device.run(1, decodes=False)[0] == pytest.approx(before)
    assert device.pace.left(4) == pytest.approx(before)  # that planning took longer says nothing


def test_fewer_sequences_may_take_less() -> None:
    device = Device(takes=0.010, planning=0.001)
    device.run(20, 8)
    assert device.pace.left(2) < 0.0025 < device.pace.left(8)


def test_one_step_that_took_long_to_plan_is_a_mishap() -> None:
    device = Device(takes=0.005, planning=0.001)
    before = device.run(50)[-1]
    device.planning = 0.0012
    device.run(1)
    device.planning = 0.001
    assert device.waited == 0.0
    assert device.run(1)[0] == pytest.approx(before)


def test_after_the_device_had_to_wait_more_is_kept_in_hand() -> None:
    device = Device(takes=0.005, planning=0.001)
    before = device.run(50)[-1]
    device.planning = 0.004  # the host gets slow
    device.run(1)
    assert device.waited > 0.0
    device.planning, device.waited = 0.001, 0.0
    after = device.run(60)
    assert after[0] == 0.0
    assert max(after) < before
    assert device.waited == pytest.approx(0.0)
