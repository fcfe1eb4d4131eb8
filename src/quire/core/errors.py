"""Typed errors. Each message is one line: what is wrong, the value, and the remedy.

`assert` is for our own bugs; anything a user, a checkpoint or the machine can cause is
one of these. They derive from the built-in a caller would expect (mostly `ValueError`),
so scripts written for other engines keep catching them.
"""

import difflib
from collections.abc import Iterable


class QuireError(Exception):
    """Base of every error Quire raises on purpose. The CLI prints it as one line, exit 1."""


class ConfigError(QuireError, ValueError):
    """An option is unknown, out of range, or contradicts another."""


class NotYetSupportedError(ConfigError):
    """A known option whose feature does not exist yet; refused rather than ignored."""


class ModelNotFoundError(QuireError, ValueError):
    """No such directory or Hub repository, access refused, or no network."""


class UnsupportedModelError(QuireError, ValueError):
    """The architecture, or a value in its config, cannot run here."""


class CheckpointError(QuireError, ValueError):
    """A weight file is missing, truncated, of the wrong shape, or unsafe to read."""


class RequestError(QuireError, ValueError):
    """A request is refused before it costs anything.

    `parameter` names the offending field (for the HTTP error body's `param`), `value` is
    what was given.
    """

    def __init__(self, message: str, parameter: str | None = None, value: object = None) -> None:
        super().__init__(message)
        self.parameter = parameter
        self.value = value


class PromptTooLongError(RequestError):
    """The prompt does not fit `max_model_len`."""


class InsufficientMemoryError(QuireError, MemoryError):
    """The weights, or the KV cache of a single sequence, do not fit the device."""


class EngineDeadError(QuireError, RuntimeError):
    """The engine stopped for a reason given in the message; this handle is unusable."""


def one_line(error: BaseException, length: int = 300) -> str:
    """What an error of somebody else's says, on one line; its class where it says nothing."""
    return " ".join(str(error).split())[:length] or type(error).__name__


def nearest(name: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the closest known name, or an empty string."""
    hits = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{hits[0]}'?" if hits else ""
