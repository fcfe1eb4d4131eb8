"""Python's garbage collector: at the start, and while requests come."""

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager

# A thousand requests are 160,000 objects that stay for seconds and, once over, leave no cycles.
# With Python's own thresholds (700, 10, 10) looking for some took a quarter of the front end's
# time while they came, and now and then looked at all of them at once.
_THRESHOLDS = 20_000, 10, 10


def settle() -> None:
    """What is loaded stays: collections need not look at it again, and are to be few."""
    gc.collect()
    gc.freeze()
    collect_seldom()


def collect_seldom() -> None:
    """From now on, unless collections are fewer yet, or none."""
    if 0 < gc.get_threshold()[0] < _THRESHOLDS[0]:
        gc.set_threshold(*_THRESHOLDS)


@contextmanager
def uncollected() -> Iterator[None]:
    """No collection meanwhile, by any thread."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def kept_from_collection() -> Iterator[None]:
    """For the import of torch and what stands on it, whose objects stay.

    Looking for garbage among them took 0.35 of the 2.3 s from a start to its first token
    (Qwen3-0.6B's shape, two cores of an EPYC, 2026-11), and 0.1 s now and then in later steps.
    """
    with uncollected():
        try:
            yield
        finally:
            gc.freeze()
            atexit.register(gc.unfreeze)  # finalizers are to run at the exit; Triton's check it
