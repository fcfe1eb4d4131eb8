"""Regular expressions: what they cost, and how a grammar writes them.

The syntax is that of Rust's `regex` crate: Python's without lookarounds and back-references.
The whole text must match, so `^` and `$` at the ends change nothing. `\\d` is [0-9].
"""

from llguidance import regex_to_lark

from quire.core.errors import RequestError
from quire.structured.limits import MAX_REGEX_CHARS, MAX_REGEX_SIZE, check_text


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
    position = 0
    while position < len(pattern):
        char = pattern[position]
        if char == "{":
            counts, end = _braces(pattern, position)
            totals[-1] += last * (counts - 1) if counts > 1 else 0
            last *= max(1, counts)
            position = end
            continue
        if char == "(":
            totals.append(0)
            last = 0
        elif char == ")" and len(totals) > 1:
            last = totals.pop()
            totals[-1] += last
        elif char not in "*+?|":
            last = 1
            totals[-1] += 1
            position = _end_of_atom(pattern, position)
            continue
        position += 1
    return sum(totals)


def _braces(pattern: str, position: int) -> tuple[int, int]:
    """(the larger count in the braces that open here, the position after them)."""
    end = pattern.find("}", position)
    counts = pattern[position + 1 : end].split(",") if end > 0 else []
    numbers = [int(c) for c in counts if c.strip().isascii() and c.strip().isdigit()]
    if not numbers:  # braces that mean themselves, or an error
        return 1, position + 1
    return max(numbers), end + 1


def _end_of_atom(pattern: str, position: int) -> int:
    """The position after the character, escape or class that begins here."""
    if pattern[position] == "\\":
        # \\p{Letter}: its braces are not a repetition.
        if pattern[position + 1 : position + 3] in ("p{", "P{", "x{", "u{", "U{"):
            end = pattern.find("}", position)
            return end + 1 if end > 0 else position + 2
        return position + 2
    if pattern[position] != "[":
        return position + 1
    depth = 0
    while position < len(pattern):
        if pattern[position] == "[" and pattern[position + 1 : position + 2] == "]":
            position += 1  # a class that begins with a bracket
            depth += 1
        elif pattern[position] == "\\":
            position += 1
        elif pattern[position] == "[":
            depth += 1
        elif pattern[position] == "]":
            depth -= 1
            if depth == 0:
                return position + 1
        position += 1
    return position
