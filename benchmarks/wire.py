"""Cost of the engine being another process: µs per streamed token, and per round trip.

    OMP_NUM_THREADS=1 python benchmarks/wire.py [--sequences 256]

First encoding and decoding alone, of steps that add one token to each sequence. Then the model
in the box in its own process: all CPU time of the front end's process (decoding, the socket, the
event loop, ZeroMQ's own thread) divided by the tokens it received, and the time from a control
call to its answer. The bar is 2 µs a token to decode.
"""

import argparse
import asyncio
import statistics
import time

import uvloop

from machine import machine_line
from quire.core.config import engine_config
from quire.core.messages import AddRequest, EngineStats, SequenceDelta, StepOutputs
from quire.core.plan import TokenLogprobs
from quire.core.sampling_params import SamplingParams
from quire.engine.remote import RemoteEngine
from quire.engine.wire import decode_from_engine, encode_from_engine

REPEATS = 300
TOKENS = 200  # of each sequence, in the live run
CALLS = 300


def codec(num_sequences: int, logprobs: int | None) -> str:
    """Encoding and decoding of one step's outputs."""
    entry = None
    if logprobs is not None:
        count = logprobs + 1
        entry = [TokenLogprobs(list(range(count)), [-1.5] * count, 1)]
    deltas = [
        SequenceDelta(f"chatcmpl-{number:016x}", 0, [1000 + number], logprobs=entry)
        for number in range(num_sequences)
    ]
    outputs = StepOutputs(deltas, EngineStats(num_sequences, 0, 0.5, 1, 1, 0, 1), 1)
    data = encode_from_engine(outputs)
    encoding = best(lambda: encode_from_engine(outputs)) / num_sequences
    decoding = best(lambda: decode_from_engine(data)) / num_sequences
    return (
        f"encode {encoding:.2f} µs, decode {decoding:.2f} µs, "
        f"{len(data) / num_sequences:.0f} bytes a token"
    )


def best(call: object) -> float:
    """µs of the median call."""
    assert callable(call)
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


async def live(num_sequences: int) -> None:
    """The real engine, with a front end that only counts."""
    received = steps = 0
    done = asyncio.Event()

    def on_outputs(outputs: StepOutputs) -> None:
        nonlocal received, steps
        steps += 1
        received += sum(len(delta.token_ids) for delta in outputs.deltas)
        if received >= num_sequences * TOKENS:
            done.set()

    engine = RemoteEngine(
        engine_config(max_num_seqs=num_sequences, num_gpu_blocks_override=num_sequences * 16),
        on_outputs=on_outputs,
        on_restart=list,
    )
    await engine.start()
    await engine.wait_ready()
    params = SamplingParams(temperature=0.0, ignore_eos=True, max_tokens=TOKENS)
    spent, start = time.process_time(), time.perf_counter()
    for number in range(num_sequences):
        engine.add(AddRequest(f"{number:016x}", [1, 2, 3, number], params, 0, [], 0.0, TOKENS))
    await done.wait()
    spent, wall = time.process_time() - spent, time.perf_counter() - start
    print(
        f"live, {num_sequences} sequences: {spent / received * 1e6:.2f} µs of CPU a token, "
        f"{spent / steps * 1e6:.0f} µs a step; {received / wall:,.0f} tokens/s by the engine"
    )
    trips = []
    for _ in range(CALLS):
        start = time.perf_counter()
        await engine.view()
        trips.append((time.perf_counter() - start) * 1e6)
    print(f"round trip to the idle engine: median {statistics.median(trips):.0f} µs")
    await engine.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sequences", type=int, default=256)
    options = parser.parse_args()
    print(machine_line("cpu"))
    print(f"plain:            {codec(options.sequences, None)}")
    print(f"sampled logprob:  {codec(options.sequences, 0)}")
    print(f"top-5 logprobs:   {codec(options.sequences, 5)}")
    uvloop.run(live(options.sequences))
    uvloop.run(live(1))


if __name__ == "__main__":
    main()
