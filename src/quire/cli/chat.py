"""`quire chat`: a conversation in the terminal, or one read from a pipe.

On a terminal: answers are streamed, Ctrl-C stops one, /help lists the commands. From a pipe, each
line is a turn of one conversation; an empty pipe has three sample prompts answered instead.
"""

import sys
from typing import Any

import click

from quire.cli.answerer import answering_command, open_answerer
from quire.cli.chat_session import ChatSession, answer_lines, answer_samples, talk


@answering_command("chat", "Talk with a model in the terminal.")
@click.option("-q", "--quick", metavar=" TEXT", help="Answer this alone, and leave.")
@click.option("--system", "--system-prompt", help="What the model is told first.")
@click.option("--chat-template", help="A chat template, or a file with one.")
def command(quick: str | None, system: str | None, chat_template: str | None, **given: Any) -> None:
    """Talk with MODEL in the terminal.

    Ctrl-C stops an answer, Ctrl-D leaves, /help shows what else can be typed. When standard input
    is a pipe, each of its lines is a turn; when it is empty, three sample prompts are answered.
    With --url a running server answers, and MODEL is its name there.

    \b
    quire chat
    quire chat Qwen/Qwen3-0.6B --system "Answer in one sentence." --temperature 0
    quire chat --url http://localhost:8000 -q "What is the capital of South Korea?"
    echo "What is the capital of South Korea?" | quire chat
    """
    with open_answerer(given, whole_context=True, chat_template=chat_template) as answerer:
        session = ChatSession(answerer, system)
        if quick is not None:
            answer_lines(session, [quick])
        elif sys.stdin.isatty():
            talk(session)
        elif not answer_lines(session, sys.stdin):
            answer_samples(session)
