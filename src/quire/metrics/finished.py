"""FinishedRequest: the figures of one ended request, which metrics, log and traces all take.

Computed once, when a request ends. Holds numbers and names, never text and never a key.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from quire.core.messages import AddRequest
from quire.core.outputs import FinishReason, RequestMetrics


class SequenceView(Protocol):
    """What is read of the front end's sequence, whose class ranks above this folder."""

    @property
    def token_ids(self) -> Sequence[int]:
        """Everything generated so far."""

    @property
    def finish_reason(self) -> FinishReason | None:
        """None while it runs."""

    @property
    def error(self) -> str | None:
        """The cause of finish_reason "error"."""

    @property
    def num_preemptions(self) -> int:
        """How often it lost its pages; known at the end."""


class RequestView(Protocol):
    """What is read of the front end's request."""

    @property
    def message(self) -> AddRequest:
        """What the engine was sent."""

    @property
    def metrics(self) -> RequestMetrics:
        """Its times."""

    @property
    def sequences(self) -> Sequence[SequenceView]:
        """Its continuations."""

    @property
    def num_cached_tokens(self) -> int | None:
        """Prompt tokens found in the prefix cache; None before the first step."""


@dataclass(frozen=True, slots=True)
class FinishedRequest:
    """Times are seconds; those of phases that the request never reached are None.

    `reasons` and `generation_tokens` have an entry a sequence.
    """

    request_id: str
    request: AddRequest
    reasons: tuple[str, ...]
    key_name: str | None
    prompt_tokens: int
    cached_tokens: int
    generation_tokens: tuple[int, ...]
    e2e: float
    queue: float | None
    time_to_first_token: float | None
    prefill: float | None
    decode: float | None
    inference: float | None
    error: str | None
    num_preemptions: int

    @property
    def total_generation_tokens(self) -> int:
        return sum(self.generation_tokens)

    @property
    def prompt_computed(self) -> bool:
        """Whether it came to a first token, or to the vector it asked for."""
        pooled = self.request.pooling is not None and self.reason == "stop"
        return self.time_to_first_token is not None or pooled

    @property
    def time_per_output_token(self) -> float | None:
        """Mean over the tokens after the first, of the longest sequence: sequences of a request
        run side by side."""
        steps = max(self.generation_tokens, default=0) - 1
        return self.decode / steps if self.decode is not None and steps > 0 else None

    @property
    def reason(self) -> str:
        """One word for the request: the worst of its sequences'."""
        for reason in ("error", "abort", "length"):
            if reason in self.reasons:
                return reason
        return self.reasons[0] if self.reasons else "abort"


def finished_request(
    request: RequestView,
    reason: str,
    key_name: str | None,
    now: float,
) -> FinishedRequest:
    """The figures of a request that ends at `now` (`time.monotonic()`); sequences without a
    reason of their own end with `reason`."""
    times, message = request.metrics, request.message
    arrival, scheduled, first = (
        times.arrival_time,
        times.first_scheduled_time,
        times.first_token_time,
    )
    last = times.last_token_time
    return FinishedRequest(
        request_id=message.request_id,
        request=message,
        reasons=tuple(s.finish_reason or reason for s in request.sequences),
        key_name=key_name,
        prompt_tokens=len(message.prompt_token_ids),
        cached_tokens=request.num_cached_tokens or 0,
        generation_tokens=tuple(len(s.token_ids) for s in request.sequences),
        e2e=(times.finished_time or now) - arrival,
        queue=_span(arrival, scheduled),
        time_to_first_token=_span(arrival, first),
        prefill=_span(scheduled, first),
        decode=_span(first, last),
        inference=_span(scheduled, last) if first is not None else None,
        error=next((s.error for s in request.sequences if s.error), None),
        num_preemptions=sum(s.num_preemptions for s in request.sequences),
    )


def _span(start: float | None, end: float | None) -> float | None:
    """Never negative: the two ends may come from two processes."""
    return max(0.0, end - start) if start is not None and end is not None else None
