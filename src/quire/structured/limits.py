"""Bounds on constraints, checked before anything is compiled.

The library bounds its own work in most places. It does not bound how deep it recurses, and a
stack overflow would take the process down: that is what `MAX_LEVELS` and `MAX_RULES` are for.
Measured with llguidance 1.9.1 on x86-64: 9.4 KiB of stack a level of schema, 3.2 KiB a rule.
"""

import threading
from collections.abc import Callable
from typing import TypeVar

from llguidance import LLParserLimits

from quire.core.errors import RequestError

MAX_SCHEMA_BYTES = 256 * 1024
MAX_GRAMMAR_BYTES = 128 * 1024
MAX_REGEX_CHARS = 32 * 1024
MAX_CHOICES = 10_000
MAX_CHOICE_BYTES = 256 * 1024
MAX_DEPTH = 64  # nesting of JSON, as in vLLM
MAX_PROPERTIES = 1000  # of one object; the library's time grows with their square
MAX_LEVELS = 2000  # nesting of a schema once its references are followed
MAX_RULES = 2000  # of a grammar
MAX_GBNF_RULES = 400  # translating takes 80 ms for so many, and grows with their square
MAX_GBNF_BYTES = 32 * 1024
MAX_REGEX_SIZE = 100_000  # once its repetitions are written out

# Room for MAX_LEVELS and MAX_RULES with a factor of three to spare; reserved, not used.
STACK_BYTES = 64 << 20

T = TypeVar("T")


def parser_limits() -> LLParserLimits:
    """The library's own bounds: what it may spend on a grammar, and on one token's mask."""
    return LLParserLimits(
        max_items_in_row=20_000,
        # A third of the default: /(a{1000}){1000}/ then gives up within 0.4 s and 60 MiB, not
        # 2 s and 240; ten thousand choices or a thousand properties still compile.
        initial_lexer_fuel=300_000,
        step_lexer_fuel=1_000_000,  # about 70 ms
        step_max_items=200_000,  # about 10 ms
        max_lexer_states=50_000,  # 1 to 2 KiB each
        verbose_errors=False,
    )


def check_text(parameter: str, text: str, max_bytes: int) -> None:
    """Refuse what is empty, too long, or not text."""
    if not text:
        raise RequestError(f"{parameter} is empty; leave it out to allow any text", parameter)
    try:
        size = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        raise RequestError(f"{parameter} holds an unpaired surrogate", parameter) from None
    if size > max_bytes:
        raise RequestError(
            f"{parameter} has {size} bytes; at most {max_bytes} are allowed", parameter, size
        )


def start_thread(target: Callable[[], None], name: str) -> threading.Thread:
    """Start a daemon thread whose stack has room for the deepest grammar allowed."""
    before = threading.stack_size(STACK_BYTES)
    try:
        thread = threading.Thread(target=target, name=name, daemon=True)
        thread.start()
    finally:
        threading.stack_size(before)
    return thread


def with_deep_stack(function: Callable[[], T]) -> T:
    """Call in a thread of its own, and wait."""
    results: list[T] = []
    start_thread(lambda: results.append(function()), "quire-grammar-check").join()
    assert results, "the function must not raise"
    return results[0]
