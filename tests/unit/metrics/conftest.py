"""Requests as the front end's tracker makes them, without a model behind it."""

from collections.abc import Callable

import pytest

from quire.core.messages import AddRequest, EngineStats, StepOutputs
from quire.core.sampling_params import SamplingParams
from quire.engine.frontend_request import TrackedRequest

MakeRequest = Callable[..., TrackedRequest]


@pytest.fixture
def make_request() -> MakeRequest:
    """A request that arrived at 100.0, waited 0.5 s, had its first token at 101 and its last,
    the fifth, at 103."""

    def make(
        request_id: str = "cmpl-1",
        *,
        n: int = 1,
        tokens: int = 5,
        reason: str | None = "stop",
        cached: int = 4,
    ) -> TrackedRequest:
        params = SamplingParams(n=n, max_tokens=20, temperature=0.5, top_p=0.9)
        message = AddRequest(request_id, list(range(10)), params, 0, [], 100.0, 20)
        request = TrackedRequest(message, "secret prompt", None)
        request.num_cached_tokens = cached
        times = request.metrics
        times.first_scheduled_time, times.first_token_time = 100.5, 101.0
        times.last_token_time, times.finished_time = 103.0, 104.0
        for sequence in request.sequences:
            sequence.token_ids = list(range(tokens))
            sequence.num_preemptions = 2
            sequence.finish_reason = reason  # type: ignore[assignment]
        return request

    return make


@pytest.fixture
def step() -> Callable[..., StepOutputs]:
    """A step's message with these stats."""

    def make(**stats: float) -> StepOutputs:
        values = dict.fromkeys(EngineStats.__struct_fields__, 0) | stats
        return StepOutputs([], EngineStats(**values))

    return make
