"""How long the engine lets requests come before it plans a step; its device only takes its time."""

import time

from quire.core.kv_spec import KVGroup
from quire.core.messages import AddRequest
from quire.core.plan import StepPlan, StepResult
from quire.core.sampling_params import SamplingParams
from quire.engine.core import EngineCore
from quire.kv.cache import KVCache
from quire.scheduler.scheduler import Scheduler

STEP = 0.05  # seconds


class Device:
    """Steps of `STEP` seconds, one after the other."""

    def __init__(self) -> None:
        self.is_capturing = False
        self.free_at = 0.0

    def submit(self, plan: StepPlan) -> "Running":
        self.free_at = max(self.free_at, time.monotonic()) + STEP
        return Running(plan, self.free_at)

    def close(self) -> None:
        pass


class Running:
    """A submitted step."""

    def __init__(self, plan: StepPlan, ends: float) -> None:
        self.plan, self.ends = plan, ends

    def ready(self) -> bool:
        return time.monotonic() >= self.ends

    def result(self) -> StepResult:
        time.sleep(max(0.0, self.ends - time.monotonic()))
        return StepResult([[5] if samples else [] for samples in self.plan.samples])


def request(name: str) -> AddRequest:
    return AddRequest(
        request_id=name,
        prompt_token_ids=[1, 2, 3],
        params=SamplingParams(),
        seed=0,
        stop_token_ids=[],
        arrival_time=0.0,
        max_tokens=100,
    )


def test_a_step_waits_for_requests_but_with_one_there_or_while_the_host_is_busy() -> None:
    cache = KVCache((KVGroup(None, ()),), (64,), 4, enable_prefix_caching=False)
    device = Device()
    engine = EngineCore(Scheduler(cache, 4, 64, 128), device, async_steps=1)
    assert engine.time_left() == 0.0
    engine.add(request("a"))
    for _ in range(5):
        engine.step()
    assert 0.0 < engine.time_left() < 2 * STEP
    device.is_capturing = True
    assert engine.time_left() == 0.0
    device.is_capturing = False
    assert engine.time_left() > 0.0
    engine.add(request("b"))
    assert engine.time_left() == 0.0
    engine.shutdown()
