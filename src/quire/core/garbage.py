"""Python's garbage collector in a process that serves."""

import gc

# A thousand requests are 160,000 objects that stay for seconds and, once over, leave no cycles.
# With Python's own thresholds (700, 10, 10) looking for some took a quarter of the front end's
# time while they came, and now and then looked at all of them at once.
_THRESHOLDS = 20_000, 10, 10


def settle() -> None:
    """What is loaded stays: collections need not look at it again, and are to be few."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
