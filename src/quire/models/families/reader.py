"""Typed reading of a parsed config.json: every field with its type, default and allowed values.

A missing required field, a value of the wrong type and an unsupported value each give one
line naming the field. Keys nobody asks for are ignored. Reads no files.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from quire.core.errors import UnsupportedModelError
from quire.models.recipe import Activation

# Hugging Face's activation names -> ours. The tanh approximations differ in rounding only.
ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "relu": "relu",
    "relu2": "relu2",
}

DTYPES = ("float32", "float16", "bfloat16", "float64")


class Reader:
    """One model's config. A field set to null counts as absent, as it does for transformers.

    In each reader `default=None` means the field is required, except in `optional_*`.

    Args:
        words: the family's own words for Llama's fields, as {Llama's: its own}. A config may
            use either; errors use the family's.
    """

    def __init__(
        self, config: Mapping[str, Any], architecture: str, words: Mapping[str, str] | None = None
    ) -> None:
        self.config = config
        self.architecture = architecture
        self._words = words or {}

    def using(self, **words: str) -> "Reader":
        """The same config in a family's words."""
        return Reader(self.config, self.architecture, words)

    def word(self, key: str) -> str:
        return self._words.get(key, key)

    def get(self, key: str) -> Any:
        """The field as it stands, None if it is not there."""
        value = self.config.get(self.word(key))
        return self.config.get(key) if value is None else value

    def has(self, key: str) -> bool:
        return self.get(key) is not None

    def fail(self, what: str) -> UnsupportedModelError:
        return UnsupportedModelError(f"config.json of {self.architecture}: {what}")

    def integer(self, key: str, default: int | None = None, *, low: int = 1) -> int:
        """A whole number >= `low`."""
        value = self._required(key, default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise self._wrong(key, value, f"an integer of at least {low}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number."""
        value = self._required(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
            raise self._wrong(key, value, "a number")
        return float(value)

    def positive(self, key: str, default: float | None = None) -> float:
        value = self.number(key, default)
        if value <= 0:
            raise self._wrong(key, value, "a number above 0")
        return value

    def boolean(self, key: str, default: bool) -> bool:
        value = self._required(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, value, "true or false")
        return value

    def optional_integer(self, key: str) -> int | None:
        """A whole number >= 1, or None."""
        return self.integer(key) if self.has(key) else None

    def optional_number(self, key: str, default: float | None = None) -> float | None:
        """A number, or None if the field is null; `default` if it is not there."""
        if key not in self.config:
            return default
        return self.number(key) if self.has(key) else None

    def strings(self, key: str, length: int, allowed: Sequence[str]) -> tuple[str, ...] | None:
        """A list of `length` words out of `allowed`, or None if absent."""
        values = self._list(key, length)
        for value in values or ():
            if value not in allowed:
                raise self.fail(f"'{key}' holds {value!r}; supported: {', '.join(allowed)}")
        return values

    def integers(self, key: str, length: int | None = None) -> tuple[int, ...] | None:
        """A list of whole numbers, `length` of them if given, or None if absent."""
        values = self._list(key, length)
        for value in values or ():
            if not isinstance(value, int):
                raise self.fail(f"'{key}' must hold integers, got {value!r}")
        return values

    def mapping(self, key: str) -> dict[str, Any]:
        """An object without its null fields, empty if absent."""
        value = self.config.get(key)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise self._wrong(key, value, "an object")
        return {k: v for k, v in value.items() if v is not None}

    def activation(self, key: str, default: str) -> Activation:
        value = self._required(key, default)
        if value not in ACTIVATIONS:
            raise self.fail(f"'{self.word(key)}' is {value!r}; supported: {', '.join(ACTIVATIONS)}")
        return ACTIVATIONS[value]

    def expect(self, key: str, supported: object) -> None:
        """Refuse a field that would change the maths in a way that is not built."""
        value = self.config.get(key)
        if value is not None and value != supported:
            raise self.fail(f"'{key}' is {value!r}; supported: {supported!r}")

    def dtype(self) -> str:
        """The dtype the checkpoint stores; torch's default where the config is silent."""
        value = str(self.config.get("dtype") or self.config.get("torch_dtype") or "float32")
        value = value.removeprefix("torch.")
        if value not in DTYPES:
            raise self.fail(f"'dtype' is {value!r}; supported: {', '.join(DTYPES)}")
        return value

    def _list(self, key: str, length: int | None) -> tuple[Any, ...] | None:
        values = self.config.get(key)
        if values is None:
            return None
        if not isinstance(values, list | tuple):
            raise self._wrong(key, values, "a list")
        if length is not None and len(values) != length:
            raise self.fail(f"'{key}' must hold {length} values (one a layer), got {len(values)}")
        return tuple(values)

    def _required(self, key: str, default: Any) -> Any:
        value = self.get(key)
        if value is None:
            value = default
        if value is None:
            raise self.fail(f"required field '{self.word(key)}' is missing")
        return value

    def _wrong(self, key: str, value: object, expected: str) -> UnsupportedModelError:
        return self.fail(f"'{self.word(key)}' must be {expected}, got {value!r}")


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that no float holds
        return False
