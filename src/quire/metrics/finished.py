"""FinishedRequest: the figures of one ended request, which metrics, log and traces all take.

Computed once, when a request ends. Holds numbers and names, never text and never a key.
"""

from quire.engine.frontend_request import TrackedRequest


class FinishedRequest:
    """Times are seconds; those of phases that the request never reached are None.

    `reasons` and `generation_tokens` have an entry a sequence.

    Args:
        reason: how sequences end that have no reason of their own.
        now: of `time.monotonic()`.
    """

    def __init__(
        self, request: TrackedRequest, reason: str, key_name: str | None, now: float
    ) -> None:
        times, sequences = request.metrics, request.sequences
        arrival, scheduled = times.arrival_time, times.first_scheduled_time
        first, last = times.first_token_time, times.last_token_time
        self.request = request.message
        self.request_id = request.message.request_id
        self.key_name = key_name
        self.reasons: tuple[str, ...] = tuple(s.finish_reason or reason for s in sequences)
        self.error = next((s.error for s in sequences if s.error), None)
        self.prompt_tokens = len(request.message.prompt_token_ids)
        self.cached_tokens = request.num_cached_tokens or 0
        self.generation_tokens = [len(s.token_ids) for s in sequences]
        self.num_preemptions = sum(s.num_preemptions for s in sequences)
        self.e2e = (times.finished_time or now) - arrival
        self.queue = _span(arrival, scheduled)
        self.time_to_first_token = _span(arrival, first)
        self.prefill = _span(scheduled, first)
        self.decode = _span(first, last)
        self.inference = _span(scheduled, last) if first is not None else None

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


def _span(start: float | None, end: float | None) -> float | None:
    """Never negative: the two ends may come from two processes."""
    return max(0.0, end - start) if start is not None and end is not None else None
