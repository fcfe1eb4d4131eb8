"""StatusLine: throughput, queue and cache in one log line every ten seconds, while there is work.

A timer exists only while steps are made, so an idle server is not woken.
"""

import asyncio
import logging
import time
from collections.abc import Callable

from quire.metrics.registry import ServerMetrics

STATUS_INTERVAL = 10.0  # seconds

logger = logging.getLogger("quire")


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
