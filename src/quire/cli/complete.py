"""`quire complete`: one text continued, streamed to standard output."""

import sys
from typing import Any

import click

from quire.cli.answerer import answering_command, open_answerer


@answering_command("complete", "Continue a text.")
@click.option("-p", "-q", "--prompt", "--quick", help="The text; read from a pipe if not given.")
@click.option("--echo", is_flag=True, help="Print the prompt before its continuation.")
def command(prompt: str | None, echo: bool, **given: Any) -> None:
    """Continue a text with MODEL, as it stands, without a chat template.

    With --url a running server continues it, and MODEL is its name there.

    \b
    quire complete --prompt "The capital of France is" --max-tokens 8 --temperature 0
    cat story.txt | quire complete Qwen/Qwen3-0.6B-Base --max-tokens 200
    quire complete --url http://localhost:8000 --prompt "Once upon a time"
    """
    if prompt is None:
        if sys.stdin.isatty():
            raise click.UsageError(
                "no prompt; give --prompt TEXT, or pipe a text in", click.get_current_context()
            )
        prompt = sys.stdin.read()
    error: str | None = None
    with open_answerer(given) as answerer:
        if echo:
            sys.stdout.write(prompt)
        for piece in answerer.complete(prompt):
            sys.stdout.write(piece.text)
            sys.stdout.flush()
            if piece.finish_reason == "error":
                error = piece.error or "the request failed"
        print(flush=True)
    if error is not None:
        raise click.ClickException(error)
