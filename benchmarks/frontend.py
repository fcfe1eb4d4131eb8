"""Cost of the front end's bookkeeping per streamed token, µs, on the boxed tokenizer.

    python benchmarks/frontend.py

256 requests decode side by side; each step's deltas go through `RequestTracker.process`. The bar
is 15 µs a token for everything the front end does with it.
"""

import time
from pathlib import Path

import quire.boxed
from quire.core.messages import ModelInfo, SequenceDelta
from quire.core.plan import TokenLogprobs
from quire.core.sampling_params import SamplingParams
from quire.engine.frontend import RequestTracker
from quire.text.load import load_tokenizer

NUM_REQUESTS = 256
TEXT = "What is the capital of South Korea? 대한민국의 수도는 서울입니다. 東京 🙂\n" * 10


def measure(**params: object) -> float:
    """Mean µs per token of `process`."""
    tokenizer = load_tokenizer(Path(quire.boxed.__path__[0]))
    info = ModelInfo(
        model="boxed",
        architecture="",
        vocab_size=len(tokenizer),
        max_model_len=2048,
        dtype="bfloat16",
        device="cpu",
        eos_token_ids=(0,),
        generation_defaults={},
        page_size=16,
        num_pages=(1,),
        max_num_seqs=NUM_REQUESTS,
        max_num_batched_tokens=2048,
        enable_prefix_caching=True,
        seed=0,
    )
    tracker = RequestTracker(tokenizer, info)
    ids = tokenizer.encode(TEXT)
    for number in range(NUM_REQUESTS):
        given = SamplingParams(max_tokens=1000, **params)  # type: ignore[arg-type]
        tracker.start(tracker.prepare("Hello", given, request_id=str(number)))
    entry = TokenLogprobs([5, 6, 7], [-1.0, -2.0, -3.0], 1)
    spent = 0.0
    for token_id in ids:
        deltas = [SequenceDelta(str(number), 0, [token_id]) for number in range(NUM_REQUESTS)]
        if "logprobs" in params:
            for delta in deltas:
                delta.logprobs = [entry]
        start = time.perf_counter()
        tracker.process(deltas)
        spent += time.perf_counter() - start
    return spent / (len(ids) * NUM_REQUESTS) * 1e6


def main() -> None:
    print(f"plain:              {measure():.2f} µs/token")
    print(f"one stop string:    {measure(stop='</s>'):.2f} µs/token")
    print(f"top-2 logprobs:     {measure(logprobs=2):.2f} µs/token")


if __name__ == "__main__":
    main()
