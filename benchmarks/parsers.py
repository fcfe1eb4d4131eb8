"""Cost of tool and reasoning parsers, µs per streamed token, on the boxed tokenizer's pieces.

    python benchmarks/parsers.py [TOOL_PARSER ...]

The bar is 3 µs a token for plain content; the front end has 15 µs for everything.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import quire.boxed
from quire.text.detokenizer import make_detokenizer
from quire.text.load import load_tokenizer
from quire.text.reasoning.parser import ReasoningParser, ResponseParser
from quire.text.tools.events import Event
from quire.text.tools.parser import ToolParser

PROSE = "The capital of South Korea is Seoul; it has about 9.4 million people. 대한민국.\n"
CODE = "if a < b and c[0] > 1:\n    return {'x': [a, b]}\n\n\n# <b>bold</b>\n"
CALL = (
    '<tool_call>\n{"name": "write_file", "arguments": {"path": "src/main.py", "mode": 420,'
    ' "lines": ["import sys", "print(\\"hello\\", sys.argv)"], "force": true}}\n</tool_call>\n'
)
ROUNDS = 20
DEFAULT = ("hermes", "llama3_json", "mistral", "pythonic", "qwen3_coder", "deepseek_v31")


class Parser(Protocol):
    def feed(self, text: str) -> list[Event]: ...


def main() -> None:
    tokenizer = load_tokenizer(Path(quire.boxed.__path__[0]))

    def deltas(text: str) -> list[str]:
        detokenizer = make_detokenizer(tokenizer)
        return [detokenizer.feed((i,)) for i in tokenizer.encode(text)]

    def cost(make: Callable[[], Parser], pieces: list[str]) -> float:
        best = float("inf")
        for _ in range(ROUNDS):
            feed = make().feed
            start = time.perf_counter()
            for piece in pieces:
                feed(piece)
            best = min(best, time.perf_counter() - start)
        return best / len(pieces) * 1e6

    prose, code, calls = (deltas(text * 50) for text in (PROSE, CODE, CALL))
    thinking = deltas("<think>" + PROSE * 50)
    print(f"{len(prose)} tokens of prose, {len(code)} of code, {len(calls)} of calls; µs per token")
    for name in sys.argv[1:] or DEFAULT:
        print(
            f"{name:>16}: prose {cost(lambda: ToolParser(name), prose):.2f},"  # noqa: B023
            f" code {cost(lambda: ToolParser(name), code):.2f}"  # noqa: B023
        )
    for bound, word in ((False, "checked"), (True, "streamed")):
        each = cost(lambda: ToolParser("hermes", bound=bound), calls)  # noqa: B023
        print(f"{'hermes':>16}: calls, arguments {word}: {each:.2f}")
    print(f"{'qwen3':>16}: reasoning {cost(lambda: ReasoningParser('qwen3'), thinking):.2f}")

    def both() -> ResponseParser:
        return ResponseParser(ReasoningParser("qwen3"), ToolParser("hermes"))

    print(f"{'qwen3 + hermes':>16}: prose {cost(both, prose):.2f}, code {cost(both, code):.2f}")


if __name__ == "__main__":
    main()
