"""Regular expressions: what they cost, and how a grammar writes them.

The syntax is that of Rust's `regex` crate: Python's without lookarounds and back-references.
The whole text must match, so `^` and `$` at the ends change nothing. `\\d` is [0-9].
"""

import re

from llguidance import regex_to_lark

from quire.core.errors import RequestError
from quire.structured.limits import MAX_REGEX_CHARS, MAX_REGEX_SIZE, check_text

# A class by name or code point, an escape, a class in brackets, a repetition, or a character.
_TOKEN = re.compile(
    r"\\[pPxu]\{[^}]*\}|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{(?P<count>\d+,?\d*|,\d+)\}|.",
    re.DOTALL,
)


def regex_terminal(pattern: str, parameter: str = "regex") -> str:
    """A pattern between slashes, as a Lark terminal.

    Raises:
        RequestError: empty, too long, or too large once its repetitions are written out.
    """
    check_regex(pattern, parameter)
    return f"/{regex_to_lark(pattern, 'd')}/"


def check_regex(pattern: str, parameter: str = "regex") -> None:
    """Refuse what would cost too much. Whether it is well formed is the library's to say."""
    check_text(parameter, pattern, 4 * MAX_REGEX_CHARS)
    if len(pattern) > MAX_REGEX_CHARS:
        raise RequestError(
            f"{parameter} has {len(pattern)} characters; at most {MAX_REGEX_CHARS} are allowed",
            parameter,
            len(pattern),
        )
    size = expanded_size(pattern)
    if size > MAX_REGEX_SIZE:
        raise RequestError(
            f"{parameter} stands for {size} characters once its repetitions are written out; "
            f"at most {MAX_REGEX_SIZE} are allowed: lower the counts in braces",
            parameter,
            size,
        )


def expanded_size(pattern: str) -> int:
    """How many characters and classes a pattern has once its repetitions are written out."""
    totals = [0]  # of each open group
    last = 0  # of the newest atom, which a repetition multiplies
    for token in _TOKEN.finditer(pattern):
        text = token[0]
        if text == "(":
            totals.append(0)
            last = 0
        elif text == ")" and len(totals) > 1:
            last = totals.pop()
            totals[-1] += last
        elif token["count"]:
            count = max(int(number) for number in token["count"].split(",") if number)
            totals[-1] += last * max(0, count - 1)
            last *= max(1, count)
        elif text not in "*+?|":
            last = 1
            totals[-1] += 1
    return sum(totals)
