"""Reading text that is still arriving, as if it were all there.

Formats are written as generators over a `Reader`: where the text ends and more may come, the
primitive yields, and the parser resumes it with more. A primitive decides as soon as the text
seen so far decides, and by nothing else, so results do not depend on how the text was cut.
"""

import re
from collections.abc import Callable, Generator
from typing import TypeVar

T = TypeVar("T")
Steps = Generator[None, None, T]

_SPACE = re.compile(r"[ \t\r\n]*")
_LABEL = re.compile(r'[^<>"\n]*')
_WORD = re.compile(r"[\w.:/\-]*")
# OpenAI allows 64 characters; beyond this it is no name.
_MAX_WORD = 256


class MalformedCall(Exception):
    """What looked like a tool call is none. Never leaves the parser: the text becomes content."""


class Reader:
    """The text not yet delivered, and how far it was read.

    `text[:mark]` is delivered (as content or in a call); `text[mark:at]` was read since. If that
    turns out not to be a call, everything from `mark` on is content, and the search for calls goes
    on at `retry`, which is behind the trigger that misled.
    """

    __slots__ = ("at", "ended", "mark", "retry", "text")

    def __init__(self) -> None:
        self.text = ""
        self.at = 0
        self.mark = 0
        self.retry = 0
        self.ended = False

    def append(self, text: str) -> None:
        """More text; what is delivered is dropped, so offsets change."""
        mark = self.mark
        if mark:
            self.text = self.text[mark:] + text
            self.at -= mark
            self.retry = max(self.retry - mark, 0)
            self.mark = 0
        else:
            self.text += text

    def deliver(self) -> None:
        """All that was read is in events now."""
        self.mark = self.retry = self.at

    def more(self) -> Steps[None]:
        """Waits for more text.

        Raises:
            MalformedCall: there is none.
        """
        if self.ended:
            raise MalformedCall
        yield

    def peek(self) -> Steps[str]:
        """The next character, not consumed."""
        while self.at == len(self.text):
            yield from self.more()
        return self.text[self.at]

    def expect(self, literal: str) -> Steps[None]:
        """Consumes exactly this."""
        while not self.text.startswith(literal, self.at):
            if not literal.startswith(self.text[self.at : self.at + len(literal)]):
                raise MalformedCall
            yield from self.more()
        self.at += len(literal)

    def space(self, write: Callable[[str], None] | None = None) -> Steps[None]:
        """Consumes white space up to the next character that is none, which must exist."""
        while True:
            end = _space_end(self.text, self.at)
            if end > self.at:
                piece = self.text[self.at : end]
                self.at = end
                if write is not None:
                    write(piece)
            if end < len(self.text):
                return
            yield from self.more()

    def glance(self) -> Steps[str]:
        """The next character that is not white space, nothing consumed; "" at the end."""
        while True:
            end = _space_end(self.text, self.at)
            if end < len(self.text):
                return self.text[end]
            if self.ended:
                return ""
            yield

    def accept(self, *literals: str) -> Steps[str]:
        """Consumes white space and one of the literals, or nothing; which one, or "".

        No literal may be the beginning of another.
        """
        while True:
            start = _space_end(self.text, self.at)
            rest = self.text[start : start + max(map(len, literals), default=0)]
            for literal in literals:
                if literal and rest.startswith(literal):
                    self.at = start + len(literal)
                    return literal
            if self.ended or not any(literal.startswith(rest) for literal in literals if literal):
                return ""
            yield

    def word(self) -> Steps[str]:
        """Consumes a name, which ends before the first character that cannot be in one."""
        while True:
            match = _WORD.match(self.text, self.at)
            assert match is not None  # the pattern matches nothing at least
            end = match.end()
            if end - self.at > _MAX_WORD or (end < len(self.text) and end == self.at):
                raise MalformedCall
            if end < len(self.text):
                word = match[0]
                self.at = end
                return word
            yield from self.more()

    def label(self, end: str) -> Steps[str]:
        """Consumes a short text without markup, quotes or line breaks, and its end."""
        while True:
            match = _LABEL.match(self.text, self.at)
            assert match is not None  # the pattern matches nothing at least
            if match.end() < len(self.text):
                break
            yield from self.more()
        if len(match[0]) > _MAX_WORD:
            raise MalformedCall
        self.at = match.end()
        yield from self.expect(end)
        return match[0]

    def until(self, end: str, write: Callable[[str], None], padded: bool = False) -> Steps[None]:
        """Consumes text and its end, writing the text as far as it is certain.

        Args:
            padded: a newline just before the end belongs to it.
        """
        ends = ("\n" + end, end) if padded else (end,)
        while True:
            found = self.text.find(end, self.at)
            if found >= 0:
                stop = found
                if padded and stop > self.at and self.text[stop - 1] == "\n":
                    stop -= 1
                piece, self.at = self.text[self.at : stop], found + len(end)
                if piece:
                    write(piece)
                return
            stop = len(self.text) - partial_tail(self.text, self.at, ends)
            if stop > self.at:
                piece, self.at = self.text[self.at : stop], stop
                write(piece)
            yield from self.more()


def partial_tail(text: str, start: int, literals: tuple[str, ...]) -> int:
    """How many of the last characters of `text[start:]` may begin one of the literals."""
    longest = min(max(map(len, literals), default=1) - 1, len(text) - start)
    for length in range(longest, 0, -1):
        tail = text[-length:]
        for literal in literals:
            if literal.startswith(tail) and literal != tail:
                return length
    return 0


def _space_end(text: str, start: int) -> int:
    match = _SPACE.match(text, start)
    assert match is not None  # the pattern matches nothing at least
    return match.end()
