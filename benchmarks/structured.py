"""Structured outputs: what checking, compiling and masking cost, and what they do to a batch.

    python benchmarks/structured.py [--vocabulary 128000] [--requests 8]

Checking is the front end's, before a request is sent. Compiling (first mask included) and masks
are done in threads of the engine. The large vocabulary is made of the boxed tokenizer's pieces,
put together at random. The last table runs the boxed model: plain requests, constrained ones,
and both together, in tokens a second of each kind.
"""

import argparse
import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import quire.boxed
from machine import machine_line
from quire import LLM, SamplingParams, StructuredOutputsParams
from quire.core import structural_tags as tags
from quire.engine.tokenizer import special_token_ids
from quire.structured.check import GrammarChecker, grammar_of
from quire.structured.state import Matcher
from quire.structured.vocabulary import Vocabulary
from quire.text.load import load_tokenizer

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "email": {"type": "string", "format": "email"},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 5},
        "address": {
            "type": "object",
            "properties": {"street": {"type": "string"}, "zip": {"type": "string"}},
            "required": ["street"],
        },
    },
    "required": ["name", "age"],
}
LARGE = {"type": "object", "properties": {f"field_{i}": PERSON for i in range(100)}}
TOOLS = tags.TriggeredTags(
    ["<tool_call>"],
    [
        tags.Tag(
            "<tool_call>\n",
            tags.JsonSchema(
                {
                    "type": "object",
                    "properties": {"name": {"const": f"tool{i}"}, "arguments": PERSON},
                    "required": ["name", "arguments"],
                }
            ),
            "\n</tool_call>",
        )
        for i in range(10)
    ],
)
CONSTRAINTS: dict[str, dict[str, Any]] = {
    "any JSON object": {"json_object": True},
    "schema, 5 fields": {"json": PERSON},
    "schema, 100 x 5 fields": {"json": LARGE},
    "regex": {"regex": r"[A-Z][a-z]+ [0-9]{1,3}, [A-Z]{2} [0-9]{5}"},
    "1000 choices": {"choice": [f"item number {i}" for i in range(1000)]},
    "10 tools": {"structural_tag": tags.structural_tag(TOOLS)},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vocabulary", type=int, default=128_000)
    parser.add_argument("--requests", type=int, default=8)
    arguments = parser.parse_args()
    print(machine_line())
    tokenizer = load_tokenizer(Path(quire.boxed.__path__[0]))
    pieces, encode = tokenizer.pieces(skip_special_tokens=False), tokenizer.continuation_encoder()
    assert pieces is not None
    assert encode is not None
    own = [pieces[i] for i in range(tokenizer.max_token_id + 1)]
    for tokens in (own, widened(own, arguments.vocabulary)):
        started = time.perf_counter()
        vocabulary = Vocabulary(tokens, special_token_ids(tokenizer), (2, 0), encode)
        built = time.perf_counter() - started
        print(f"\nvocabulary of {vocabulary.size}: built in {built * 1e3:.0f} ms")
        print(f"{'':24}{'check ms':>10}{'compile ms':>12}{'mask µs':>10}{'p99':>8}{'token µs':>10}")
        for name, constraint in CONSTRAINTS.items():
            print(f"{name:24}{line(vocabulary, StructuredOutputsParams(**constraint))}")
    print()
    batch(arguments.requests)


def widened(old: list[bytes], size: int) -> list[bytes]:
    """More tokens: two or three of the old ones, put together."""
    choose = random.Random(0)
    tokens = dict.fromkeys(old)
    texts = [token for token in old if token]
    while len(tokens) < size:
        tokens[b"".join(choose.choices(texts, k=choose.choice((2, 2, 3))))] = None
    return list(tokens)


def line(vocabulary: Vocabulary, params: StructuredOutputsParams) -> str:
    check = timed(lambda: GrammarChecker(vocabulary.special_tokens).check(params))
    started = time.perf_counter()
    matcher = Matcher.compile(grammar_of(params, vocabulary.special_tokens), vocabulary)
    matcher.next_mask()
    compiled = time.perf_counter() - started
    masks: list[float] = []
    tokens: list[float] = []
    for seed in range(5):
        for mask_time, token_time in walk(matcher.copy(), seed):
            masks.append(mask_time)
            tokens.append(token_time)
    p99 = sorted(masks)[int(len(masks) * 0.99)]
    return (
        f"{check * 1e3:10.2f}{compiled * 1e3:12.2f}{statistics.mean(masks) * 1e6:10.0f}"
        f"{p99 * 1e6:8.0f}{statistics.mean(tokens) * 1e6:10.1f}"
    )


def walk(matcher: Matcher, seed: int, length: int = 100) -> Iterator[tuple[float, float]]:
    """Random allowed tokens: seconds of each mask, and of taking in each token."""
    choose = random.Random(seed)
    for _ in range(length):
        started = time.perf_counter()
        mask = matcher.next_mask()
        masked = time.perf_counter() - started
        if mask is None:
            return
        allowed = np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little"))
        token_id = int(choose.choice(allowed[allowed > 2]))
        started = time.perf_counter()
        matcher.consume([token_id])
        yield masked, time.perf_counter() - started
        if matcher.complete:
            return


def timed(call: Any, rounds: int = 5) -> float:
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)


def batch(count: int) -> None:
    """The boxed model with and without constraints."""
    prompt = [{"role": "user", "content": "Tell me about the sea."}]
    plain = SamplingParams(temperature=1.0, seed=1, max_tokens=100, ignore_eos=True)
    constraint = StructuredOutputsParams(regex="[a-z ]{2000}")
    bound = SamplingParams(temperature=1.0, seed=1, max_tokens=100, structured_outputs=constraint)
    with LLM(max_model_len=512, use_tqdm_on_load=False) as llm:
        llm.chat([prompt] * 2, [plain, bound], use_tqdm=False)
        for name, params in (
            (f"{count} plain", [plain] * count),
            (f"{count} constrained", [bound] * count),
            (f"{count} of each", [plain, bound] * count),
        ):
            started = time.perf_counter()
            outputs = llm.chat([prompt] * len(params), params, use_tqdm=False)
            seconds = time.perf_counter() - started
            tokens = sum(len(o.outputs[0].token_ids) for o in outputs)
            print(f"{name:20}{tokens / seconds:8.0f} tokens/s")


if __name__ == "__main__":
    main()
