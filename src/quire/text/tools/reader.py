"""Reading text that is still arriving, as if it were all there.

Formats are written as generators over a `Reader`: where the text ends and more may come, the
primitive yields, and the parser resumes it with more. A primitive decides as soon as the text
seen so far decides, and by nothing else, so results do not depend on how the text was cut.
"""

import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
Steps = Generator[None, None, T]
Write = Callable[[str], None]

_SPACE = re.compile(r"[ \t\r\n]*")
_LABEL = re.compile(r'[^<>"\n]*')
_WORD = re.compile(r"[\w.:/\-]*")
# OpenAI allows 64 characters; beyond this it is no name.
_MAX_WORD = 256


class MalformedCall(Exception):
    """What looked like a tool call is none. Never leaves the parser: the text becomes content."""


@dataclass(slots=True)
class Reader:
    """The text not yet delivered, and how far it was read.

    `text[:mark]` is delivered (as content or in a call); `text[mark:at]` was read since. If that
    turns out not to be a call, everything from `mark` on is content, and the search for calls goes
    on at `retry`, which is behind the trigger that misled.
    """

    text: str = ""
    at: int = 0
    mark: int = 0
    retry: int = 0
    ended: bool = False

    def append(self, text: str) -> None:
        """More text; what is delivered is dropped, so offsets change."""
        self.text = self.text[self.mark :] + text
        self.at -= self.mark
        self.retry = max(self.retry - self.mark, 0)
        self.mark = 0

    def deliver(self) -> None:
        """All that was read is in events now."""
        self.mark = self.retry = self.at

    def take(self, end: int, write: Write) -> None:
        """Consumes and writes the text up to there."""
        piece, self.at = self.text[self.at : end], end
        write(piece)

    def more(self) -> Steps[None]:
        """Waits for more text.

        Raises:
            MalformedCall: there is none.
        """
        if self.ended:
            raise MalformedCall
        yield

    def peek(self, ahead: int = 0) -> Steps[str]:
        """The next character, or one further ahead; nothing is consumed."""
        while self.at + ahead >= len(self.text):
            yield from self.more()
        return self.text[self.at + ahead]

    def expect(self, literal: str) -> Steps[None]:
        """Consumes exactly this."""
        while not self.text.startswith(literal, self.at):
            if not literal.startswith(self.text[self.at : self.at + len(literal)]):
                raise MalformedCall
            yield from self.more()
        self.at += len(literal)

    def space(self) -> Steps[str]:
        """Consumes white space; the next character after it, which must exist."""
        while (end := self.match_end(_SPACE)) == len(self.text):
            yield from self.more()
        self.at = end
        return self.text[end]

    def glance(self) -> Steps[str]:
        """The next character that is not white space, nothing consumed; "" at the end."""
        while (end := self.match_end(_SPACE)) == len(self.text):
            if self.ended:
                return ""
            yield
        return self.text[end]

    def accept(self, *literals: str) -> Steps[str]:
        """Consumes white space and one of the literals, or nothing; which one, or "".

        No literal may be the beginning of another.
        """
        while True:
            start = self.match_end(_SPACE)
            rest = self.text[start : start + max(map(len, literals), default=0)]
            for literal in literals:
                if literal and rest.startswith(literal):
                    self.at = start + len(literal)
                    return literal
            if self.ended or not any(literal.startswith(rest) for literal in literals if literal):
                return ""
            yield

    def word(self) -> Steps[str]:
        """Consumes a name, which may be empty and ends before what cannot be in one."""
        return self._run(_WORD)

    def label(self, end: str) -> Steps[str]:
        """Consumes a short text without markup, quotes or line breaks, and its end."""
        text = yield from self._run(_LABEL)
        yield from self.expect(end)
        return text

    def _run(self, pattern: re.Pattern[str]) -> Steps[str]:
        while True:
            end = self.match_end(pattern)
            if end - self.at > _MAX_WORD:
                raise MalformedCall
            if end < len(self.text):
                text, self.at = self.text[self.at : end], end
                return text
            yield from self.more()

    def match_end(self, pattern: re.Pattern[str]) -> int:
        """Where the next text that matches ends; the pattern must match nothing at least."""
        match = pattern.match(self.text, self.at)
        assert match is not None
        return match.end()

    def until(self, end: str, write: Write, padded: bool = False) -> Steps[None]:
        """Consumes text and its end, writing the text as far as it is certain.

        Args:
            padded: a newline just before the end belongs to it.
        """
        ends = ("\n" + end, end) if padded else (end,)
        while (found := self.text.find(end, self.at)) < 0:
            stop = len(self.text) - partial_tail(self.text, self.at, ends)
            if stop > self.at:
                self.take(stop, write)
            yield from self.more()
        stop = found - (padded and found > self.at and self.text[found - 1] == "\n")
        if stop > self.at:
            self.take(stop, write)
        self.at = found + len(end)


def partial_tail(text: str, start: int, literals: tuple[str, ...]) -> int:
    """How many of the last characters of `text[start:]` may begin one of the literals."""
    longest = min(max(map(len, literals), default=1) - 1, len(text) - start)
    for length in range(longest, 0, -1):
        tail = text[-length:]
        if any(literal.startswith(tail) and literal != tail for literal in literals):
            return length
    return 0
