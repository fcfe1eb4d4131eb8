"""Memory of a server under everything at once, for ten minutes: it must not grow.

    python benchmarks/soak.py [--seconds 600] [--warm-up 120] [--clients 16]

`quire serve` on the boxed model; clients that stream, ask for several choices, log-probabilities,
JSON, tools and vectors, leave half-way, and send what is refused, each prompt a new one. Memory is
the resident set of the front end and of its engine, once a second. Growth is the median of the last
tenth of the time against that of the first tenth after the warm-up. Exit status 1 if either grew by
1% or more.
"""

import argparse
import asyncio
import itertools
import random
import re
import statistics
import subprocess
import sys
import time

import httpx
import psutil

BAR = 0.01
WORDS = ["red", "green", "one", "two", "apple", "river", "stone", "Paris", "Seoul", "Mina", "Tom"]
# Small pools, so that all of each is in use before the warm-up ends.
SERVER = """serve --host 127.0.0.1 --port 0 --max-model-len 512 --kv-cache-memory-bytes 32MiB
    --max-stored-responses 20"""
TOOL = {
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


def bodies(draw: random.Random) -> tuple[str, dict[str, object]]:
    """A path and a body for it."""
    text = " ".join(draw.choices(WORDS, k=draw.randint(1, 120)))
    chat = {"messages": [{"role": "user", "content": text}], "max_tokens": draw.randint(1, 64)}
    tools = [{"type": "function", "function": TOOL}]
    form = {"type": "json_object"}
    return draw.choice(
        [
            ("chat/completions", chat | {"stream": True}),
            ("chat/completions", chat | {"stream": True, "logprobs": True, "top_logprobs": 5}),
            ("chat/completions", chat | {"n": 3, "stop": ["river"]}),
            ("chat/completions", chat | {"response_format": form, "stream": True}),
            ("chat/completions", chat | {"tools": tools, "tool_choice": "required"}),
            ("chat/completions", chat | {"structured_outputs": {"choice": text.split()}}),
            ("completions", {"prompt": [text, text[::-1]], "max_tokens": 32, "echo": True}),
            ("completions", {"prompt": text, "max_tokens": 200, "stream": True}),
            ("responses", {"input": text, "max_output_tokens": 32, "stream": True}),
            ("messages", chat | {"stream": True}),
            ("embeddings", {"input": text}),
            ("completions", {"prompt": text, "temperature": -1}),
        ]
    )


async def one_client(http: httpx.AsyncClient, seed: int, counts: dict[str, int]) -> None:
    """Ask, and one time in five leave before the end; for ever."""
    draw = random.Random(seed)
    while True:
        path, body = bodies(draw)
        leaves = draw.random() < 0.2
        async with http.stream("POST", f"/v1/{path}", json=body) as answer:
            async for _ in answer.aiter_raw():
                if leaves:
                    break
        kind = f"{answer.status_code // 100}xx"
        counts[kind] = counts.get(kind, 0) + 1


async def soak(
    address: str, processes: dict[str, psutil.Process], arguments: argparse.Namespace
) -> dict[str, list[int]]:
    """Resident bytes of each process, once a second."""
    sizes: dict[str, list[int]] = {name: [] for name in processes}
    counts: dict[str, int] = {}
    async with httpx.AsyncClient(base_url=address, timeout=120) as http:
        clients = [
            asyncio.create_task(one_client(http, seed, counts)) for seed in range(arguments.clients)
        ]
        for _ in range(arguments.seconds):
            await asyncio.sleep(1)
            for name, process in processes.items():
                sizes[name].append(process.memory_info().rss)
        for client in clients:
            client.cancel()
        ended = await asyncio.gather(*clients, return_exceptions=True)
    failed = [each for each in ended if not isinstance(each, asyncio.CancelledError)]
    print(f"{sum(counts.values())} answers: {counts}; clients that failed: {failed}")
    return sizes


def growth(sizes: list[int], warm_up: int) -> float:
    """Of the last tenth of the time over the first after the warm-up."""
    rest = sizes[warm_up:]
    bounds = [len(rest) * i // 10 for i in range(11)]
    medians = [statistics.median(rest[a:b]) for a, b in itertools.pairwise(bounds) if a < b]
    grown = medians[-1] / medians[0] - 1
    print(f"  MiB by tenths: {', '.join(f'{m / 2**20:.1f}' for m in medians)} ({grown:+.2%})")
    return grown


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--warm-up", type=int, default=120)
    parser.add_argument("--clients", type=int, default=16)
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "quire.cli.main", *SERVER.split()]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert server.stdout is not None
        found = re.search(r"listening on (\S+)", server.stdout.readline())
        assert found is not None
        while httpx.get(f"{found[1]}/health").status_code != 200:
            time.sleep(0.1)
        front = psutil.Process(server.pid)
        (engine,) = front.children()
        sizes = asyncio.run(soak(found[1], {"front end": front, "engine": engine}, arguments))
    finally:
        server.terminate()
        server.wait(30)
    worst = 0.0
    for name, each in sizes.items():
        print(name)
        worst = max(worst, growth(each, arguments.warm_up))
    return int(worst >= BAR)


if __name__ == "__main__":
    sys.exit(main())
