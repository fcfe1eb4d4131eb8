"""Load on a completions endpoint: streams of token-id prompts, at a rate or all at once.

    python benchmarks/load.py --port 8000 --model NAME --vocab 128256 --requests 200 --rate 16

Arrivals are Poisson; lengths are log-normal around their means, drawn once from a seed, so that
every server gets the same requests. A request's clock starts before its connection is made.
"""

import argparse
import asyncio
import json
import random
import statistics
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Load:
    """What is sent: how many requests, how often, how long. A rate of 0 is all at once."""

    requests: int
    rate: float = 0.0
    prompt_mean: int = 220
    output_mean: int = 200
    shared_prefix: int = 0


@dataclass(frozen=True)
class Measured:
    """What came back. Times in milliseconds."""

    output_rate: float  # tokens a second
    first_p50: float
    first_p99: float
    per_token: float  # mean over requests of the time between their first and last token


@dataclass(frozen=True)
class _Answer:
    first: float
    last: float
    tokens: int


def measure(host: str, port: int, model: str, vocab: int, load: Load, seed: int = 0) -> Measured:
    """Put `load` on a server.

    Raises:
        RuntimeError: a request failed or came back short.
    """
    return asyncio.run(_measure(host, port, model, vocab, load, seed))


async def _measure(host: str, port: int, model: str, vocab: int, load: Load, seed: int) -> Measured:
    draw = random.Random(seed)

    def tokens(count: int) -> list[int]:
        return [draw.randrange(10, vocab - 10) for _ in range(count)]

    def length(mean: int, most: int) -> int:
        return max(4, min(most, int(draw.lognormvariate(0, 0.8) * mean / 1.377)))

    prefix = tokens(load.shared_prefix)
    bodies = []
    for _ in range(load.requests):
        count, outputs = length(load.prompt_mean, 4096), length(load.output_mean, 1024)
        bodies.append(_body(model, prefix + tokens(count), outputs))
    began = time.perf_counter()
    tasks = []
    for body in bodies:
        if load.rate:
            await asyncio.sleep(draw.expovariate(load.rate))
        tasks.append(asyncio.create_task(_stream(host, port, body)))
    answers = await asyncio.gather(*tasks)
    seconds = time.perf_counter() - began
    first = sorted(answer.first * 1e3 for answer in answers)
    rates = [(a.last - a.first) / (a.tokens - 1) * 1e3 for a in answers if a.tokens > 1]
    return Measured(
        output_rate=sum(answer.tokens for answer in answers) / seconds,
        first_p50=first[len(first) // 2],
        first_p99=first[int(0.99 * len(first))],
        per_token=statistics.mean(rates),
    )


def _body(model: str, prompt: list[int], outputs: int) -> bytes:
    return json.dumps(
        {
            "model": model,
            "prompt": prompt,
            "max_tokens": outputs,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()


async def _stream(host: str, port: int, body: bytes) -> _Answer:
    """One request, over a connection of its own."""
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection(host, port, limit=1 << 20)
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    status = await reader.readline()
    first = last = began
    usage: dict[str, int] = {}
    async for line in reader:
        if not line.startswith(b"data: {"):
            continue
        last = time.perf_counter()
        if first == began:
            first = last
        if b'"usage":{' in line or b'"usage": {' in line:
            usage = json.loads(line[6:])["usage"]
    writer.close()
    wanted = json.loads(body)["max_tokens"]
    if b" 200 " not in status or usage.get("completion_tokens") != wanted:
        raise RuntimeError(f"{status!r}: asked for {wanted} tokens, got {usage}")
    return _Answer(first - began, last - began, wanted)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--vocab", type=int, required=True)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second; 0: at once")
    parser.add_argument("--prompt-mean", type=int, default=220)
    parser.add_argument("--output-mean", type=int, default=200)
    parser.add_argument("--shared-prefix", type=int, default=0)
    given = parser.parse_args()
    load = Load(
        given.requests, given.rate, given.prompt_mean, given.output_mean, given.shared_prefix
    )
    print(measure(given.host, given.port, given.model, given.vocab, load))


if __name__ == "__main__":
    main()
