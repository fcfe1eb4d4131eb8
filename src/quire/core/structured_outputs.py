"""`StructuredOutputsParams`: what the text of a request must look like. Field names are vLLM's.

The shape is checked here; whether a grammar is one is `structured.check`'s to say.
"""

from dataclasses import dataclass
from typing import Any

from quire.core.errors import RequestError

CONSTRAINTS = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")


@dataclass(frozen=True, slots=True)
class StructuredOutputsParams:
    """Exactly one constraint, and how JSON is written.

    Args:
        json: a JSON schema, as a dict or as text.
        regex: the whole text matches it.
        choice: the text is one of these.
        grammar: Lark, or GBNF (rules written `name ::= ...`).
        json_object: any JSON object.
        disable_any_whitespace: JSON without any whitespace.
        disable_additional_properties: objects in `json` have no properties but those listed.
        whitespace_pattern: regex of the whitespace between JSON tokens, instead of ours.
        structural_tag: free text with constrained parts between tags: {"type":
            "structural_tag", "format": ...}, or the older {"structures", "triggers"}.

    Raises:
        RequestError: none or several constraints, or one of the wrong type.
    """

    json: str | dict[str, Any] | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    disable_any_whitespace: bool = False
    disable_additional_properties: bool = False
    whitespace_pattern: str | None = None
    structural_tag: str | dict[str, Any] | None = None

    def __post_init__(self) -> None:
        given = self._given()
        if len(given) != 1:
            wanted = f"structured_outputs needs exactly one of {', '.join(CONSTRAINTS)}"
            raise RequestError(f"{wanted}; got {' and '.join(given) or 'none'}", _NAME)
        self._check_types()

    @property
    def kind(self) -> str:
        return self._given()[0]

    def _given(self) -> list[str]:
        return [c for c in CONSTRAINTS if getattr(self, c) not in (None, False)]

    def _check_types(self) -> None:
        kind = self.kind
        value = getattr(self, kind)
        if kind == "choice":
            right = isinstance(value, list | tuple) and all(isinstance(v, str) for v in value)
            wanted = "a list of strings"
        elif kind == "json_object":
            right, wanted = value is True, "true"
        elif kind in ("json", "structural_tag"):
            right, wanted = isinstance(value, str | dict), "an object, or its text"
        else:
            right, wanted = isinstance(value, str), "a string"
        if not right:
            raise RequestError(f"{kind} must be {wanted}, got {value!r:.80}", kind, value)
        pattern = self.whitespace_pattern
        if pattern is not None and not isinstance(pattern, str):
            raise RequestError(
                f"whitespace_pattern must be a string, got {pattern!r:.80}", "whitespace_pattern"
            )


_NAME = "structured_outputs"
