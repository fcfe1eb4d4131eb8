"""Typed reading of a parsed config.json: every field with its type, default and allowed values.

A missing required field, a value of the wrong type and an unsupported value each give one
line naming the field. Keys nobody asks for are ignored. Reads no files.
"""

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
    """

    def __init__(self, config: Mapping[str, Any], architecture: str) -> None:
        self.config = config
        self.architecture = architecture

    def fail(self, what: str) -> UnsupportedModelError:
        """The error to raise for this config."""
        return UnsupportedModelError(f"config.json of {self.architecture}: {what}")

    def has(self, key: str) -> bool:
        """True if the field is there and not null."""
        return self.config.get(key) is not None

    def integer(self, key: str, default: int | None = None, *, low: int = 1) -> int:
        """A whole number >= `low`."""
        value = self._get(key, default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise self.fail(f"'{key}' must be an integer of at least {low}, got {value!r}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number."""
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.fail(f"'{key}' must be a number, got {value!r}")
        return float(value)

    def boolean(self, key: str, default: bool) -> bool:
        """true or false."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self.fail(f"'{key}' must be true or false, got {value!r}")
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

    def activation(self, key: str, default: str) -> Activation:
        """One of the known activation functions."""
        value = self._get(key, default)
        if value not in ACTIVATIONS:
            raise self.fail(f"'{key}' is {value!r}; supported: {', '.join(ACTIVATIONS)}")
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
            raise self.fail(f"'{key}' must be a list, got {values!r}")
        if length is not None and len(values) != length:
            raise self.fail(f"'{key}' must hold {length} values (one a layer), got {len(values)}")
        return tuple(values)

    def _get(self, key: str, default: Any) -> Any:
        value = self.config.get(key)
        if value is not None:
            return value
        if default is None:
            raise self.fail(f"required field '{key}' is missing")
        return default
