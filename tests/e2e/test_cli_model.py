"""The commands that run the boxed model, as a user runs them: pipes, a terminal, Ctrl-C."""

import contextlib
import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import pytest

from quire.cli.main import run

Captured = pytest.CaptureFixture[str]
QUIRE = [sys.executable, "-m", "quire.cli.main"]
SECONDS = 240
# Other tests run beside these: two threads that wait for each other on a busy core crawl.
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def test_complete(capsys: Captured) -> None:
    arguments = ["complete", "--prompt", "The capital of", "--max-tokens", "5"]
    assert run([*arguments, "--temperature", "0", "--kv-cache-memory-bytes", "16MiB"]) == 0
    first = capsys.readouterr().out
    assert first.strip()
    assert run([*arguments, "--temperature", "0", "--echo", "--max-num-seqs", "2"]) == 0
    assert capsys.readouterr().out == "The capital of" + first


def test_complete_reads_a_pipe(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("The capital of"))
    assert run(["complete", "--max-tokens", "3", "--temperature", "0"]) == 0
    assert capsys.readouterr().out.strip()


def test_complete_refuses_what_does_not_fit(capsys: Captured) -> None:
    assert run(["complete", "-p", "a b c d e f g h i j k l", "--max-model-len", "4"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("quire: error: the prompt (length ")
    assert "maximum model length of 4" in error


def test_chat_answers_each_line_of_a_pipe(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "What is the capital of South Korea?\n\n대한민국의 수도는?\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    assert run(["chat", "--temperature", "0"]) == 0
    answers = capsys.readouterr().out.splitlines()
    assert len(answers) == 2
    assert "Seoul" in answers[0]
    assert "서울" in answers[1]


def test_chat_answers_samples_when_there_is_nothing_to_read() -> None:
    done = subprocess.run(
        [*QUIRE, "chat", "--temperature", "0"],
        stdin=subprocess.DEVNULL,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    assert "Seoul" in done.stdout
    assert "서울" in done.stdout
    assert len(re.findall(r"\(\d+ tokens, [\d.]+ tokens/s\)", done.stdout)) == 3
    assert "3 prompts answered by boxed" in done.stdout


class Terminal:
    """`quire chat` on a pseudo-terminal."""

    def __init__(self, *options: str) -> None:
        self._fd, theirs = pty.openpty()
        self._process = subprocess.Popen(
            [*QUIRE, "chat", *options],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=ENVIRONMENT,
            start_new_session=True,
        )
        os.close(theirs)
        self.seen = ""

    def wait_for(self, pattern: str, seconds: float = SECONDS) -> str:
        """Everything read up to a match; what comes after is kept."""
        deadline = time.monotonic() + seconds
        while True:
            match = re.search(pattern, self.seen)
            if match:
                before, self.seen = self.seen[: match.end()], self.seen[match.end() :]
                return before
            assert time.monotonic() < deadline, f"no {pattern!r} in {self.seen!r}"
            if select.select([self._fd], [], [], 1.0)[0]:
                try:
                    data = os.read(self._fd, 4096)
                except OSError as error:  # the program has ended
                    raise AssertionError(f"no {pattern!r} in {self.seen!r}") from error
                self.seen += data.decode("utf-8", "replace")

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def interrupt(self, until: str) -> None:
        """Ctrl-C, again if nothing comes of it: CPython notices one that arrives just before
        input() starts to wait only with the next key."""
        for _ in range(6):
            self._process.send_signal(signal.SIGINT)
            with contextlib.suppress(AssertionError):
                self.wait_for(until, 10)
                return
        raise AssertionError(f"no {until!r} in {self.seen!r}")

    def exit_status(self) -> int:
        """Wait for the end."""
        try:
            return self._process.wait(SECONDS)
        finally:
            self._process.kill()
            os.close(self._fd)


def test_chat_on_a_terminal() -> None:
    terminal = Terminal("--temperature", "0", "--max-tokens", "400")
    terminal.wait_for("Ctrl-D to leave.*\n.*> ")
    terminal.type("What is the capital of South Korea?\n")
    assert "Seoul" in terminal.wait_for("Seoul[^\n]*\n.*> ")
    terminal.type("/help\n")
    terminal.wait_for("/reset .*(.|\n)*> ")
    terminal.type("/resett\n")
    terminal.wait_for("no command /resett.*\n.*> ")
    terminal.type("/reset\n")
    terminal.wait_for(r"\(forgotten\).*\n.*> ")
    terminal.interrupt(until="/exit to leave.*\n.*> ")
    terminal.type("\x04")
    assert terminal.exit_status() == 0


def test_interrupt_stops_an_answer_only() -> None:
    # No end of sequence for a long while: the answer can only be stopped.
    terminal = Terminal("--temperature", "1", "--top-p", "1", "--min-tokens", "2000")
    terminal.wait_for("Ctrl-D to leave.*\n.*> ")
    terminal.type("Hello!\n")
    terminal.wait_for("Hello!.*\n.*\\w+")
    terminal.interrupt(until=r"\(stopped\).*\n.*> ")
    terminal.type("/exit\n")
    assert terminal.exit_status() == 0
