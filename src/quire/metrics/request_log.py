"""RequestLog: one line for each ended request, for people and, as fields, for machines.

Never a prompt, an output or a key; requests are named by id, keys by name.
"""

import logging

from quire.metrics.finished import FinishedRequest

logger = logging.getLogger("quire.requests")


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
        if logger.isEnabledFor(level):
            logger.log(level, "%s", _line(done), extra={"fields": _fields(done)})


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
