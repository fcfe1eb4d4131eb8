"""Cost of the scheduler's Python in a steady decode: `plan()` and `update()` apart.

No model and no device: results are made up, and their making is not timed. Sequences start
with prompts of different lengths, so that page borders fall in every step. Run:

    python benchmarks/scheduling.py [--sequences 256] [--steps 2000]
"""

import argparse
import gc
import random
import statistics
import time
from collections import deque

from quire.core.kv_spec import KVGroup
from quire.core.messages import AddRequest
from quire.core.plan import StepPlan, StepResult
from quire.core.sampling_params import SamplingParams
from quire.kv.cache import KVCache
from quire.scheduler.scheduler import Scheduler

PAGE_SIZE = 16
PROMPT_TOKENS = (64, 192)
CASES: tuple[tuple[str, tuple[int | None, ...], bool], ...] = (
    ("full attention", (None,), True),
    ("full attention, no prefix cache", (None,), False),
    ("full and window 512", (None, 512), True),
)


def steady_scheduler(
    windows: tuple[int | None, ...], caching: bool, num_seqs: int, num_steps: int
) -> Scheduler:
    """A scheduler with `num_seqs` requests that outlast the measurement."""
    max_tokens = num_steps + 64
    pages = num_seqs * (-(-(PROMPT_TOKENS[1] + max_tokens) // PAGE_SIZE) + 1)
    groups = [KVGroup(window, ()) for window in windows]
    cache = KVCache(groups, [pages] * len(groups), PAGE_SIZE, caching)
    scheduler = Scheduler(cache, num_seqs, 8192, PROMPT_TOKENS[1] + max_tokens + 1)
    random_ = random.Random(0)
    for i in range(num_seqs):
        prompt = [random_.randrange(32000) for _ in range(random_.randint(*PROMPT_TOKENS))]
        params = SamplingParams(max_tokens=max_tokens)
        scheduler.add(
            AddRequest(f"request-{i}", prompt, params, i, [2], float(i), max_tokens=max_tokens)
        )
    return scheduler


def made_up_result(plan: StepPlan) -> StepResult:
    """A token for each sequence that samples; never the stop token."""
    return StepResult([[1000 + plan.step] if samples else [] for samples in plan.samples])


def measure(scheduler: Scheduler, depth: int, num_steps: int) -> tuple[list[float], list[float]]:
    """Seconds of each `plan()` and `update()`, `depth` steps ahead, once all are decoding."""
    plan_times: list[float] = []
    update_times: list[float] = []
    in_flight: deque[tuple[StepPlan, StepResult]] = deque()
    while len(plan_times) < num_steps:
        begin = time.perf_counter()
        plan = scheduler.plan()
        planned = time.perf_counter()
        assert plan is not None
        in_flight.append((plan, made_up_result(plan)))
        if len(in_flight) <= depth:
            continue
        steady = not plan.starts and all(plan.samples)
        oldest, result = in_flight.popleft()
        started = time.perf_counter()
        scheduler.update(oldest, result)
        if steady:
            plan_times.append(planned - begin)
            update_times.append(time.perf_counter() - started)
    return plan_times, update_times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sequences", type=int, default=256)
    parser.add_argument("--steps", type=int, default=2000)
    options = parser.parse_args()
    print(f"{options.sequences} decoding sequences, {options.steps} steps, microseconds a step")
    print(f"{'':36}{'plan':>16}{'update':>16}{'both':>16}")
    print(f"{'':36}" + f"{'median':>8}{'p99':>8}" * 3)
    for name, windows, caching in CASES:
        for depth in (0, 1):
            scheduler = steady_scheduler(windows, caching, options.sequences, options.steps)
            gc.collect()
            plans, updates = measure(scheduler, depth, options.steps)
            both = [p + u for p, u in zip(plans, updates)]
            cells = ""
            for times in (plans, updates, both):
                p99 = statistics.quantiles(times, n=100)[98]
                cells += f"{statistics.median(times) * 1e6:8.0f}{p99 * 1e6:8.0f}"
            print(f"{f'{name}, {depth} ahead':36}{cells}")


if __name__ == "__main__":
    main()
