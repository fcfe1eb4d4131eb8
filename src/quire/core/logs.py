"""How log lines are written: as the command line does, with times, or a JSON object a line."""

import json
import logging
import sys
import time
from typing import Literal, TextIO

LogFormat = Literal["plain", "text", "json"]
# Those that get the handler, and those whose lines reach it through them.
_ROOTS = ("quire", "uvicorn", "opentelemetry")
_BRANCHES = ("uvicorn.error", "uvicorn.access")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, and the record's `fields`."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """`12:34:56 warning  message`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(level)s %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        record.level = f"{record.levelname.lower():<7}"
        return super().format(record)


class _StderrHandler(logging.Handler):
    """Writes to whatever standard error is at that moment, not when the handler was made."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr, flush=True)


def configure_logging(level: str, log_format: LogFormat, stream: TextIO | None = None) -> None:
    """Send Quire's lines, uvicorn's and OpenTelemetry's to `stream` (standard error) in one format.

    Start uvicorn with `log_config=None`, else it sets its loggers up again.
    """
    handler = _StderrHandler() if stream is None else logging.StreamHandler(stream)
    if log_format == "plain":
        handler.setFormatter(logging.Formatter("quire: %(message)s"))
    else:
        handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    for name in (*_ROOTS, *_BRANCHES):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler] if name in _ROOTS else []
        logger.propagate = name not in _ROOTS
        logger.setLevel(level.upper())
