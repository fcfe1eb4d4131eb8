"""What log lines say, and what they never say."""

import io
import json
import logging

import pytest

from quire.core.logs import configure_logging
from quire.metrics.config import ObservabilityConfig
from quire.metrics.log_lines import RequestLog, StatusLine
from quire.metrics.registry import ServerMetrics
from quire.metrics.setup import make_metrics


@pytest.fixture
def log():
    """`log(format)` starts logging into the buffer it returns."""
    names = ("quire", "uvicorn", "uvicorn.error", "uvicorn.access", "opentelemetry")
    loggers = [logging.getLogger(name) for name in names]
    before = [(x, x.handlers[:], x.propagate, x.level) for x in loggers]

    def start(log_format: str, level: str = "info") -> io.StringIO:
        stream = io.StringIO()
        configure_logging(level, log_format, stream)  # type: ignore[arg-type]
        return stream

    yield start
    for logger, handlers, propagate, level in before:
        logger.handlers[:] = handlers
        logger.propagate = propagate
        logger.setLevel(level)


def end(log: RequestLog, request, status: str = "stop", key: str | None = "alice") -> None:
    metrics = ServerMetrics("m", "quire", 4096)
    metrics.request_listeners.append(log)
    metrics.on_finished(request, status, key)


def test_a_readable_line(log, make_request) -> None:
    stream = log("text")
    end(RequestLog(every=True), make_request())
    (line,) = stream.getvalue().splitlines()
    assert line.partition("info    ")[2] == (
        "cmpl-1: stop, 10 prompt (4 cached) + 5 tokens, queue 500 ms, TTFT 1.00 s, TPOT 500 ms, "
        "total 4.00 s, key alice"
    )


def test_a_line_for_machines(log, make_request) -> None:
    stream = log("json")
    end(RequestLog(every=True), make_request(n=2))
    line = json.loads(stream.getvalue())
    assert line["level"] == "info"
    assert line["logger"] == "quire.requests"
    assert line["time"].endswith("Z")
    assert {
        "request_id": "cmpl-1",
        "finish_reason": "stop",
        "api_key_name": "alice",
        "prompt_tokens": 10,
        "cached_tokens": 4,
        "generation_tokens": 10,
        "sequences": 2,
        "time_to_first_token_seconds": 1.0,
        "e2e_seconds": 4.0,
    }.items() <= line.items()


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_text_of_a_request_is_logged(log, make_request, log_format) -> None:
    stream = log(log_format, "debug")
    request = make_request()
    request.sequences[0]._parts = ["secret answer"]
    end(RequestLog(every=True), request)
    assert stream.getvalue()
    assert "secret" not in stream.getvalue()


def test_a_request_id_cannot_forge_lines(log, make_request) -> None:
    stream = log("text")
    end(RequestLog(every=True), make_request("a\n12:00:00 error   forged\x1b[31m"))
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b" not in stream.getvalue()


def test_only_what_went_wrong_unless_asked(log, make_request) -> None:
    stream = log("text")
    quiet = RequestLog(every=False)
    end(quiet, make_request())
    assert stream.getvalue() == ""
    end(quiet, make_request(reason=None), "abort")
    failed = make_request(reason="error")
    failed.sequences[0].error = "NaN in the logits"
    end(quiet, failed, "error")
    aborted, error = stream.getvalue().splitlines()
    assert "info    cmpl-1: abort, 10 prompt" in aborted
    assert "warning cmpl-1: error, NaN in the logits, 10 prompt" in error


def test_others_speak_the_same_format(log) -> None:
    stream = log("json")
    logging.getLogger("uvicorn.error").info("started")
    logging.getLogger("uvicorn.access").info('%s - "%s"', "1.2.3.4", "GET /")
    logging.getLogger("opentelemetry.exporter").warning("refused")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["message"] for line in lines] == ["started", '1.2.3.4 - "GET /"', "refused"]


def test_exceptions_stay_in_their_line(log) -> None:
    stream = log("json")
    try:
        raise ValueError("bad")
    except ValueError:
        logging.getLogger("quire").exception("it failed")
    assert "ValueError: bad" in json.loads(stream.getvalue())["exception"]


class Loop:
    """A clock and the timers of an event loop, advanced by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[tuple[float, object]] = []

    def call_later(self, delay: float, callback) -> object:
        self.timers.append((self.now + delay, callback))
        return callback

    def advance(self, seconds: float) -> None:
        self.now += seconds
        due = [timer for timer in self.timers if timer[0] <= self.now]
        self.timers = [timer for timer in self.timers if timer[0] > self.now]
        for _, callback in due:
            callback()


def test_status_line_under_load_and_silence_after(log, make_request, step) -> None:
    stream, loop = log("json"), Loop()
    metrics = ServerMetrics("m", "quire", 4096)
    metrics.step_listener = StatusLine(metrics, 10.0, loop.call_later, lambda: loop.now).step
    request = make_request()
    assert loop.timers == []  # an idle server has none
    metrics.on_step(step(num_steps=1))
    metrics.on_first_token(request, None)
    for number in range(2, 102):
        metrics.on_step(
            step(
                num_steps=number,
                num_running=3,
                num_waiting=2,
                kv_usage=0.125,
                prefix_queries=200,
                prefix_hits=50,
            )
        )
        metrics.on_tokens(request, 4, 0.1)
    assert len(loop.timers) == 1
    loop.advance(10)
    line = json.loads(stream.getvalue())
    assert line["message"] == (
        "1.0 prompt + 40.0 generated tokens/s, 3 running, 2 waiting, KV cache 12.5%, "
        "prefix hits 25.0%"
    )
    assert line["generation_tokens_per_second"] == 40.0
    loop.advance(10)
    assert len(stream.getvalue().splitlines()) == 1
    assert loop.timers == []
    metrics.on_step(step(num_steps=103))  # work again
    assert len(loop.timers) == 1


def test_status_line_after_a_restart(log, step) -> None:
    stream, loop = log("text"), Loop()
    metrics = ServerMetrics("m", "quire", 4096)
    metrics.step_listener = StatusLine(metrics, 10.0, loop.call_later, lambda: loop.now).step
    metrics.on_step(step(num_steps=9, prefix_queries=1000, prefix_hits=900))
    metrics.on_step(step(num_steps=1, prefix_queries=10, prefix_hits=1))
    loop.advance(10)
    assert "prefix hits 10.0%" in stream.getvalue()


def test_setup_attaches_what_was_asked_for() -> None:
    for wanted in (True, False):
        listener = make_metrics("m", ObservabilityConfig(log_stats=wanted)).step_listener
        assert isinstance(getattr(listener, "__self__", None), StatusLine) == wanted
