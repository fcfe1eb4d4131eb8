"""The API keys of `quire serve`: from flags or a variable, and from a file. Never shown."""

import logging
from collections.abc import Sequence
from pathlib import Path

from quire.core.errors import ConfigError
from quire.server.config import ApiKey

logger = logging.getLogger("quire")


def api_keys(words: Sequence[str], key_file: str | None) -> tuple[ApiKey, ...]:
    """Those given as they are, then those of the file.

    Raises:
        ConfigError: the file cannot be read, a line is not a key, or two keys are the same.
    """
    many = len(words) > 1 or key_file is not None
    keys = [ApiKey(f"key-{i}" if many else "key", word) for i, word in enumerate(words, 1)]
    if key_file is not None:
        keys += _read_key_file(Path(key_file))
    first: dict[str, str] = {}
    for key in keys:
        twin = first.setdefault(key.secret, key.name)
        if twin != key.name:
            raise ConfigError(f"API keys {twin} and {key.name} are the same; give each its own")
    return tuple(keys)


def _read_key_file(path: Path) -> list[ApiKey]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"--api-key-file {path} cannot be read: {reason}") from None
    if path.stat().st_mode & 0o044:
        logger.warning("%s can be read by other users of this machine; chmod 600 it", path)
    keys = [
        _read_key(line.strip(), number, f"--api-key-file {path}: line {number}")
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.strip().startswith("#")
    ]
    if not keys:
        raise ConfigError(f"--api-key-file {path} holds no key; the server would be open")
    return keys


def _read_key(text: str, number: int, where: str) -> ApiKey:
    """KEY, NAME:KEY or NAME:KEY:WEIGHT."""
    name, *rest = (part.strip() for part in text.split(":", 2))
    if not rest:
        return ApiKey(f"line-{number}", name)
    if not rest[0]:
        raise ConfigError(f"{where} has no key; write NAME:KEY or NAME:KEY:WEIGHT")
    try:
        weight = float(rest[1]) if len(rest) > 1 else 1.0
    except ValueError:
        weight = 0.0
    if not 0.0 < weight < float("inf"):
        raise ConfigError(f"{where}: the weight must be a positive number")
    return ApiKey(name, rest[0], weight)
