"""The lines that a server logs: one for each ended request, and what it does every ten seconds.

For people and, as fields, for machines. Never a prompt, an output or a key; requests are named by
id, keys by name.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from quire.metrics.finished import FinishedRequest
from quire.metrics.registry import ServerMetrics

logger = logging.getLogger("quire")
STATUS_INTERVAL = 10.0  # seconds
_requests = logging.getLogger("quire.requests")


class RequestLog:
    """One line for each ended request.

    Args:
        every: log all of them; otherwise only those that were aborted or failed, which nobody
            should have to guess at.
    """

    def __init__(self, every: bool) -> None:
        self._every = every

    def arrived(self, request_id: str) -> None:
        """Nothing is logged before the end."""

    def finished(self, done: FinishedRequest) -> None:
        reason = done.reason
        if not self._every and reason not in ("abort", "error"):
            return
        level = logging.WARNING if reason == "error" else logging.INFO
        if _requests.isEnabledFor(level):
            _requests.log(level, "%s", _line(done), extra={"fields": _fields(done)})


def _line(done: FinishedRequest) -> str:
    parts = [f"{done.request_id}: {done.reason}"]
    if done.error:
        parts.append(_printable(done.error))
    cached = f" ({done.cached_tokens} cached)" if done.cached_tokens else ""
    parts.append(f"{done.prompt_tokens} prompt{cached} + {done.total_generation_tokens} tokens")
    if len(done.reasons) > 1:
        parts.append(f"{len(done.reasons)} sequences")
    for name, seconds in (
        ("queue", done.queue),
        ("TTFT", done.time_to_first_token),
        ("TPOT", done.time_per_output_token),
        ("total", done.e2e),
    ):
        if seconds is not None:
            parts.append(f"{name} {_duration(seconds)}")
    if done.key_name:
        parts.append(f"key {done.key_name}")
    return _printable(", ".join(parts))


def _fields(done: FinishedRequest) -> dict[str, object]:
    times = {
        "queue_seconds": done.queue,
        "time_to_first_token_seconds": done.time_to_first_token,
        "time_per_output_token_seconds": done.time_per_output_token,
        "e2e_seconds": done.e2e,
    }
    return {
        "request_id": done.request_id,
        "finish_reason": done.reason,
        "api_key_name": done.key_name,
        "prompt_tokens": done.prompt_tokens,
        "cached_tokens": done.cached_tokens,
        "generation_tokens": done.total_generation_tokens,
        "sequences": len(done.reasons),
        **{name: None if value is None else round(value, 6) for name, value in times.items()},
        **({"error": done.error} if done.error else {}),
    }


def _duration(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.2f} s"


def _printable(text: str) -> str:
    """Request ids come from clients: no line breaks or control characters get into the log."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


CallLater = Callable[[float, Callable[[], None]], asyncio.TimerHandle]


class StatusLine:
    """Throughput, queue and cache every ten seconds while steps are made.

    The first step starts a timer; when an interval passes without a step, the timer ends too.

    Args:
        metrics: whose figures they are; call `step` after each of its steps.
        call_later: the running event loop's, unless a test brings a clock of its own.
    """

    def __init__(
        self,
        metrics: ServerMetrics,
        interval: float = STATUS_INTERVAL,
        call_later: CallLater | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics = metrics
        self._interval = interval
        self._call_later = call_later
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self._stepped = False
        self._since = (0.0, 0.0, 0.0, 0, 0)  # time, prompt, generated, queries, hits

    def step(self) -> None:
        self._stepped = True
        if self._timer is None:
            self._since = self._now()
            self._start()

    def _start(self) -> None:
        later = self._call_later or asyncio.get_running_loop().call_later
        self._timer = later(self._interval, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if not self._stepped:
            return
        self._stepped = False
        before, self._since = self._since, self._now()
        self._log(before, self._since)
        self._start()

    def _now(self) -> tuple[float, float, float, int, int]:
        stats = self._metrics.stats
        return (self._clock(), *self._metrics.totals(), stats.prefix_queries, stats.prefix_hits)

    def _log(
        self,
        before: tuple[float, float, float, int, int],
        after: tuple[float, float, float, int, int],
    ) -> None:
        seconds = max(after[0] - before[0], 1e-9)
        prompt, generated = (after[i] - before[i] for i in (1, 2))
        # Smaller than before: the engine was restarted and counts from zero.
        whole = after[3] < before[3]
        queries, hits = (after[i] - (0 if whole else before[i]) for i in (3, 4))
        stats = self._metrics.stats
        rate = hits / queries if queries else None
        fields: dict[str, float | None] = {
            "prompt_tokens_per_second": round(prompt / seconds, 1),
            "generation_tokens_per_second": round(generated / seconds, 1),
            "running": stats.num_running,
            "waiting": stats.num_waiting,
            "kv_usage": round(stats.kv_usage, 4),
            "prefix_hit_rate": None if rate is None else round(rate, 4),
        }
        logger.info(
            f"{prompt / seconds:.1f} prompt + {generated / seconds:.1f} generated tokens/s, "
            f"{stats.num_running} running, {stats.num_waiting} waiting, "
            f"KV cache {stats.kv_usage:.1%}, prefix hits {'-' if rate is None else f'{rate:.1%}'}",
            extra={"fields": fields},
        )
