"""The conversation behind `quire chat`: its messages, and the three ways to hold it."""

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from quire.cli.answerer import Answerer, Message
from quire.core.errors import EngineDeadError, QuireError

SAMPLE_PROMPTS = (
    "Hello! Who are you?",
    "What is the capital of South Korea?",
    "대한민국의 수도는?",
)

_HELP = """\
/help            this
/reset           forget the conversation
/system [TEXT]   set what the model is told first (without TEXT: nothing), and forget
/exit            leave (as Ctrl-D does)
Ctrl-C           stop the answer
A line that ends in \\ goes on in the next one."""


@dataclass(slots=True)
class Answer:
    """What became of the last turn."""

    num_tokens: int = 0
    seconds: float = 0.0
    finish_reason: str | None = None
    error: str | None = None

    @property
    def rate(self) -> str:
        return f"{self.num_tokens} tokens, {self.num_tokens / max(self.seconds, 1e-9):.1f} tokens/s"


class ChatSession:
    """Messages so far; `ask` streams an answer and remembers it."""

    def __init__(self, answerer: Answerer, system: str | None) -> None:
        self._answerer = answerer
        self.model = answerer.model
        self.last = Answer()
        self.reset(system)

    def reset(self, system: str | None) -> None:
        self.system = system
        self._messages: list[Message] = [{"role": "system", "content": system}] if system else []

    def ask(self, text: str) -> Iterator[str]:
        """The answer, piece by piece. Left early, it is remembered as far as it came.

        Raises:
            QuireError: the turn could not be answered; it is forgotten.
        """
        self._messages.append({"role": "user", "content": text})
        self.last = answer = Answer()
        began = time.perf_counter()
        said = ""
        try:
            for piece in self._answerer.chat(self._messages):
                answer.num_tokens += piece.num_tokens
                answer.finish_reason = piece.finish_reason or answer.finish_reason
                answer.error = piece.error
                answer.seconds = time.perf_counter() - began
                if piece.text:
                    said += piece.text
                    yield piece.text
        except QuireError:
            self._messages.pop()
            raise
        except BaseException:  # Ctrl-C, or the caller has enough
            self._messages.append({"role": "assistant", "content": said.strip()})
            raise
        self._messages.append({"role": "assistant", "content": said.strip()})


def talk(session: ChatSession) -> None:
    """The conversation on a terminal, until the user leaves."""
    with contextlib.suppress(ImportError):  # some Pythons are built without it
        import readline  # noqa: F401 - importing it gives input() its arrow keys and history
    print(f"{session.model}: type a message; /help for more, Ctrl-D to leave")
    while True:
        try:
            line = _read_turn()
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print("\n(Ctrl-D or /exit to leave)")
            continue
        word, _, rest = line.partition(" ")
        if word in ("/exit", "/quit", "/bye"):
            return
        if word.startswith("/"):
            print(_obey(session, word, rest.strip()))
        elif line:
            _answer_aloud(session, line)


def _obey(session: ChatSession, word: str, rest: str) -> str:
    """What there is to say after a line that begins with a slash."""
    if word == "/help":
        return _HELP
    if word == "/reset":
        session.reset(session.system)
        return "(forgotten)"
    if word == "/system":
        session.reset(rest or None)
        return "(set)" if rest else "(removed)"
    return f"no command {word}; /help lists them"


def _answer_aloud(session: ChatSession, line: str) -> None:
    try:
        _print_answer(session, line)
    except KeyboardInterrupt:
        print(" (stopped)")
    except EngineDeadError:
        raise
    except QuireError as error:
        print(f"quire: error: {error}; /reset starts a new conversation", file=sys.stderr)


def answer_lines(session: ChatSession, lines: Iterable[str]) -> bool:
    """Each line a turn of one conversation, answered as soon as it is read; answers only, so
    that they can be piped on. False if there was no line."""
    any_line = False
    for line in filter(str.strip, lines):
        any_line = True
        _print_answer(session, line.strip())
    return any_line


def answer_samples(session: ChatSession) -> None:
    """What the model can do, for those who gave it nothing to say."""
    total = Answer()
    for prompt in SAMPLE_PROMPTS:
        session.reset(session.system)
        print(f"> {prompt}")
        _print_answer(session, prompt)
        print(f"  ({session.last.rate})\n")
        total.num_tokens += session.last.num_tokens
        total.seconds += session.last.seconds
    print(f"{len(SAMPLE_PROMPTS)} prompts answered by {session.model}: {total.rate}")


def _print_answer(session: ChatSession, text: str) -> None:
    begun = False
    for piece in session.ask(text):
        shown = piece if begun else piece.lstrip()
        begun = begun or bool(shown)
        print(shown, end="", flush=True)
    print(flush=True)
    if session.last.finish_reason == "error":
        print(f"quire: error: {session.last.error}", file=sys.stderr)
    elif session.last.finish_reason == "length":
        print(
            f"quire: the answer was cut after {session.last.num_tokens} tokens;"
            " raise --max-tokens, or --max-model-len",
            file=sys.stderr,
        )


def _read_turn() -> str:
    lines = [input("> ")]
    while lines[-1].endswith("\\"):
        lines[-1] = lines[-1][:-1]
        lines.append(input(". "))
    return "\n".join(lines).strip()
