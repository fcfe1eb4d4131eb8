"""`quire complete`: one text continued, streamed to standard output."""

import sys
from typing import Any

import click

from quire.cli.options import engine_options, model_argument, sampling_options, split_options


@click.command(name="complete", short_help="Continue a text.")
@model_argument
@click.option("--prompt", "-p", help="The text to continue; read from a pipe if not given.")
@click.option("--echo", is_flag=True, help="Print the prompt before its continuation.")
@sampling_options
@engine_options
def command(model: str, prompt: str | None, echo: bool, **given: Any) -> None:
    """Continue a text with MODEL, as it stands, without a chat template.

    \b
    quire complete --prompt "The capital of France is" --max-tokens 8 --temperature 0
    cat story.txt | quire complete Qwen/Qwen3-0.6B-Base --max-tokens 200
    """
    if prompt is None:
        if sys.stdin.isatty():
            raise click.UsageError(
                "no prompt; give --prompt TEXT, or pipe a text in", click.get_current_context()
            )
        prompt = sys.stdin.read()
    from quire.llm import LLM

    engine, sampling = split_options(given)
    with LLM(model, **engine) as llm:
        params = llm.get_default_sampling_params()
        for name, value in sampling.items():
            setattr(params, name, value)
        if echo:
            sys.stdout.write(prompt)
        update = None
        for update in llm.stream(prompt, params):
            sys.stdout.write(update.text)
            sys.stdout.flush()
        print(flush=True)
    if update is not None and update.sequence.finish_reason == "error":
        raise click.ClickException(update.sequence.error or "the request failed")
