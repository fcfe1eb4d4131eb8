"""Cost of incremental detokenization and stop strings, µs per token, on the boxed tokenizer.

    python benchmarks/detokenizer.py [TOKENIZER_DIRECTORY]

The front end's bar is 15 µs for everything it does per streamed token.
"""

import sys
import time
from pathlib import Path

import quire.boxed
from quire.text.detokenizer import WindowDetokenizer, make_detokenizer
from quire.text.load import load_tokenizer
from quire.text.stops import StopMatcher

TEXT = "What is the capital of South Korea? 대한민국의 수도는 서울입니다. 東京 🙂\n"
ROUNDS = 200


def main() -> None:
    directory = sys.argv[1] if len(sys.argv) > 1 else str(Path(quire.boxed.__path__[0]))
    tokenizer = load_tokenizer(Path(directory))
    ids = tokenizer.encode(TEXT * 20)
    stops = ["</s>", "\n\nUser:", "<|im_end|>", "Observation:"]

    def stream(make: object, with_stops: bool) -> float:
        start = time.perf_counter()
        for _ in range(ROUNDS // 10):
            detokenizer = make()  # type: ignore[operator]
            matcher = StopMatcher(stops)
            for token_id in ids:
                text = detokenizer.feed((token_id,))
                if with_stops:
                    matcher.feed(text)
        return (time.perf_counter() - start) / (ROUNDS // 10 * len(ids)) * 1e6

    def chosen() -> object:
        return make_detokenizer(tokenizer)

    def window() -> object:
        return WindowDetokenizer(tokenizer, [], True, {})

    print(f"{len(ids)} tokens of {directory}")
    print(f"{type(chosen()).__name__:>20}: {stream(chosen, False):.2f} µs/token")
    print(f"{'with 4 stop strings':>20}: {stream(chosen, True):.2f} µs/token")
    print(f"{'WindowDetokenizer':>20}: {stream(window, False):.2f} µs/token")


if __name__ == "__main__":
    main()
