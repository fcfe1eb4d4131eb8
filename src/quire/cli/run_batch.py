"""`quire run-batch`: an OpenAI batch file, answered by a model loaded here or a running server."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from quire.cli.answerer import client_key, refuse_with_url
from quire.cli.command import GroupedCommand
from quire.cli.options import ENGINE_GROUPS, model_argument, name_model, serve_groups
from quire.cli.serve import ServeOptions, read_options
from quire.cli.values import dashes
from quire.core.errors import ConfigError
from quire.server.config import ANSWERS, CONVERSATIONS

if TYPE_CHECKING:
    import httpx

    from quire.cli.batch import Tally

MAX_CONCURRENCY = 1024  # requests under way, where the engine could take more
SERVED_CONCURRENCY = 64  # the same of a server whose size is not known

GROUPS = {
    title: options
    for title, options in serve_groups().items()
    if title in (CONVERSATIONS, ANSWERS, *ENGINE_GROUPS)
}


@click.command(
    name="run-batch",
    short_help="Answer the requests of an OpenAI batch file.",
    cls=GroupedCommand,
    groups=GROUPS,
)
@model_argument
@click.option("-i", "--input-file", required=True, help="Requests, a JSON object each line; or -.")
@click.option("-o", "--output-file", required=True, help="Where the answers are written; or -.")
@click.option("--url", help="Ask a running server, such as http://localhost:8000.")
@click.option("--api-key", help="The server's API key, with --url (default: QUIRE_API_KEY).")
@click.option("--concurrency", type=click.IntRange(1), help="Most requests under way.")
def command(
    input_file: str,
    output_file: str,
    url: str | None,
    api_key: str | None,
    concurrency: int | None,
    **given: Any,
) -> None:
    """Answer the requests of an OpenAI batch file with MODEL.

    Each line has custom_id, method, url (/v1/chat/completions, /v1/completions, /v1/embeddings
    …) and body; each line of the output has the custom_id and a response or an error, in the
    order of the input.

    \b
    quire run-batch -i requests.jsonl -o answers.jsonl
    quire run-batch -i requests.jsonl -o answers.jsonl Qwen/Qwen3-0.6B --max-model-len 8k
    quire run-batch -i requests.jsonl -o answers.jsonl --url http://localhost:8000
    """
    name_model(given)
    if url is not None:
        refuse_with_url([dashes(name) for name, value in given.items() if value is not None])
        connect = _served(url, client_key(api_key))
    elif api_key is not None:
        raise click.UsageError("--api-key needs --url", click.get_current_context())
    else:
        connect = _in_process(read_options(given))
    with _files(input_file, output_file) as (lines, output):
        tally, seconds = asyncio.run(_run(connect, lines, output, concurrency))
    failed = f", {tally.num_failed} failed" if tally.num_failed else ""
    print(f"quire: {tally.num_done} requests answered in {seconds:.1f} s{failed}", file=sys.stderr)


Connection = tuple["httpx.AsyncClient", int]  # and the concurrency that suits it
Connect = Callable[[], contextlib.AbstractAsyncContextManager[Connection]]


async def _run(
    connect: Connect, lines: list[str], output: TextIO, concurrency: int | None
) -> tuple["Tally", float]:
    from tqdm import tqdm

    from quire.cli.batch import run_lines

    total = sum(bool(line.strip()) for line in lines)
    async with connect() as (client, suitable):
        began = time.perf_counter()
        with tqdm(desc="requests", total=total, disable=None) as bar:  # where somebody watches
            tally = await run_lines(
                client, lines, output, concurrency=concurrency or suitable, on_done=bar.update
            )
        return tally, time.perf_counter() - began


def _in_process(options: ServeOptions) -> Connect:
    """The server's application without a network: its engine is a process of its own."""

    @contextlib.asynccontextmanager
    async def connect() -> AsyncIterator[Connection]:
        import httpx

        from quire.server.app import create_app
        from quire.server.run import ENGINE_STOP_TIMEOUT
        from quire.server.state import ServerState

        server = replace(options.server, api_keys=())  # there is nobody else to keep out
        state = ServerState(options.engine, server)
        try:
            await state.start()
            transport = httpx.ASGITransport(create_app(state))
            async with httpx.AsyncClient(
                transport=transport, base_url="http://batch", timeout=None
            ) as client:
                yield client, min(MAX_CONCURRENCY, 2 * state.ready().info.max_num_seqs)
        finally:
            await state.engine.shutdown(ENGINE_STOP_TIMEOUT)

    return connect


def _served(url: str, key: str | None) -> Connect:
    @contextlib.asynccontextmanager
    async def connect() -> AsyncIterator[Connection]:
        import httpx

        from quire.cli.client import check_server, connection

        settings = connection(url, key)
        check_server(settings)
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(**settings, limits=limits) as client:
            yield client, SERVED_CONCURRENCY

    return connect


@contextlib.contextmanager
def _files(input_file: str, output_file: str) -> Iterator[tuple[list[str], TextIO]]:
    """The input's lines and the open output. Raises ConfigError naming the file."""
    try:
        if input_file == "-":
            lines = sys.stdin.read().splitlines()
        else:
            lines = Path(input_file).read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise ConfigError(f"--input-file {input_file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"--input-file {input_file}: it is not UTF-8") from None
    if output_file == "-":
        yield lines, sys.stdout
        return
    same = Path(output_file).exists() and Path(output_file).resolve() == Path(input_file).resolve()
    if same:
        raise ConfigError(f"--output-file {output_file} is the input; choose another")
    try:
        output = Path(output_file).open("w", encoding="utf-8")  # noqa: SIM115 - closed below
    except OSError as error:
        raise ConfigError(f"--output-file {output_file}: {error.strerror}") from None
    with output:
        yield lines, output
