"""`quire chat`: a conversation in the terminal, or one read from a pipe.

On a terminal: answers are streamed, Ctrl-C stops one, /help lists the commands. From a pipe, each
line is a turn of one conversation; an empty pipe has three sample prompts answered instead.
"""

import sys
from typing import Any

import click

from quire.cli.options import engine_options, model_argument, sampling_options, split_options


@click.command(name="chat", short_help="Talk with a model in the terminal.")
@model_argument
@click.option("--system", help="What the model is told before the conversation.")
@click.option("--chat-template", help="A chat template, or a file with one.")
@sampling_options
@engine_options
def command(model: str, system: str | None, chat_template: str | None, **given: Any) -> None:
    """Talk with MODEL in the terminal.

    Ctrl-C stops an answer, Ctrl-D leaves, /help shows what else can be typed. When standard input
    is a pipe, each of its lines is a turn; when it is empty, three sample prompts are answered.

    \b
    quire chat
    quire chat Qwen/Qwen3-0.6B --system "Answer in one sentence." --temperature 0
    echo "What is the capital of South Korea?" | quire chat
    """
    from quire.cli.chat_session import ChatSession, answer_lines, answer_samples, talk
    from quire.llm import LLM

    engine, sampling = split_options(given)
    with LLM(model, **engine) as llm:
        session = ChatSession(llm, sampling, system, chat_template)
        if sys.stdin.isatty():
            talk(session)
        elif not answer_lines(session, sys.stdin):
            answer_samples(session)
