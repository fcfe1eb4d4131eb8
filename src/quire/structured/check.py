"""From a request's constraint to a grammar that llguidance takes, refused if it is not one.

`grammar_of` reads a constraint and holds it to the limits; `GrammarChecker` also has the library
compile it, for a vocabulary of bytes. The front end does both before a request costs anything; the
engine does the first again, as it trusts nothing it is sent.
"""

import contextlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from functools import cached_property

import msgspec

from quire.core.errors import RequestError
from quire.core.structured_outputs import StructuredOutputsParams
from quire.structured.json_schema import JsonStyle
from quire.structured.lark import LarkWriter, grammars_text, user_grammar
from quire.structured.limits import (
    MAX_CHOICE_BYTES,
    MAX_CHOICES,
    check_text,
    with_deep_stack,
)
from quire.structured.state import GrammarError, Matcher
from quire.structured.structural_tag import structural_tag_grammar
from quire.structured.vocabulary import Vocabulary

# Longer grammars are checked on a stack of their own; a thread costs 0.1 ms.
_SHORT = 4096


def grammar_of(
    params: StructuredOutputsParams,
    special_tokens: Mapping[str, int],
    disable_any_whitespace: bool = False,
) -> str:
    """The grammar of a constraint.

    Args:
        special_tokens: text of a special token -> its id, for tags that name one.
        disable_any_whitespace: the engine's default for JSON.

    Raises:
        RequestError: malformed, or beyond the limits.
    """
    style = JsonStyle.of(params, disable_any_whitespace)
    writer = LarkWriter(special_tokens, style)
    if params.json is not None:
        return writer.finish(writer.json(params.json, "json"))
    if params.json_object:
        return writer.finish(writer.json({"type": "object"}, "json_object"))
    if params.regex is not None:
        return writer.finish(writer.regex(params.regex, "regex"))
    if params.choice is not None:
        return writer.finish(_choice(params.choice, writer))
    if params.grammar is not None:
        return grammars_text([{"name": "main", "lark_grammar": user_grammar(params.grammar)}])
    assert params.structural_tag is not None, "the shape was checked at construction"
    return structural_tag_grammar(params.structural_tag, special_tokens, style)


def _choice(choices: list[str], writer: LarkWriter) -> str:
    if not choices:
        raise RequestError("choice is empty; give at least one text", "choice")
    if len(choices) > MAX_CHOICES:
        raise RequestError(
            f"choice has {len(choices)} texts; at most {MAX_CHOICES} are allowed",
            "choice",
            len(choices),
        )
    if not any(choices):
        raise RequestError("choice holds nothing but empty texts", "choice")
    check_text("choice", "".join(choices), MAX_CHOICE_BYTES)
    texts = dict.fromkeys(choices)
    if any(map(writer.holds_special_token, texts)):
        return " | ".join(map(writer.literal, texts))
    return writer.terminal(" | ".join(map(writer.literal, texts)))  # cheaper than rules


class GrammarChecker:
    """Says whether constraints are grammars, and remembers those that are. Threads may share it."""

    def __init__(
        self, special_tokens: Iterable[str], vocab_size: int = 0, remember: int = 256
    ) -> None:
        self._special_tokens, self._vocab_size = tuple(special_tokens), vocab_size
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._remember = remember

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        """Takes 0.1 s for 150,000 tokens, so not before it is needed."""
        return bytes_vocabulary(self._special_tokens, self._vocab_size)

    def check(self, params: StructuredOutputsParams) -> None:
        """Refuse what cannot be compiled. Takes about a millisecond, some 40 ms for the
        largest schemas, and microseconds for a constraint seen before.

        Raises:
            RequestError: with the reason.
        """
        key = constraint_key(params)
        with contextlib.suppress(KeyError):
            self._known.move_to_end(key)
            return
        grammar = grammar_of(params, self._vocabulary.special_tokens)
        problem = why_invalid(grammar, self._vocabulary)
        if problem is not None:
            raise RequestError(f"{params.kind} cannot be used: {problem}", params.kind)
        self._known[key] = None
        if len(self._known) > self._remember:
            self._known.popitem(last=False)


def constraint_key(params: StructuredOutputsParams) -> bytes:
    """The same for the same constraint."""
    try:
        return msgspec.json.encode(params)
    except (TypeError, ValueError, RecursionError) as error:
        raise RequestError(f"{params.kind} is not JSON: {error}", params.kind) from None


def why_invalid(grammar: str, vocabulary: Vocabulary) -> str | None:
    """What the library has against a grammar, on one line; None if nothing."""

    def compile_it() -> str | None:
        try:
            Matcher.compile(grammar, vocabulary).next_mask()
        except GrammarError as error:
            return str(error)
        # The library's panics are not Exceptions; none may end the front end.
        except BaseException as error:
            return f"{type(error).__name__}: {error}"
        return None

    return compile_it() if len(grammar) < _SHORT else with_deep_stack(compile_it)


def bytes_vocabulary(special_tokens: Iterable[str], size: int = 0) -> Vocabulary:
    """One in which every text can be written: a token a byte, then the special tokens, then tokens
    without a text up to `size`."""
    tokens = [bytes([i]) for i in range(256)]
    special = {text: len(tokens) + i for i, text in enumerate(special_tokens)}
    eos = len(tokens) + len(special)
    tokens += [b""] * max(size - len(tokens), len(special) + 1)
    return Vocabulary(tokens, special, (eos,), lambda text: list(text.encode("utf-8")))
