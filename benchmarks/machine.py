"""One line that says what a figure was measured on."""

import platform
from datetime import date

from quire.platform.detect import detect


def machine_line(device: str = "auto") -> str:
    """Device, memory, versions and the day: without them a number says nothing."""
    import torch

    import quire

    caps = detect(device)
    cores = "cores" if caps.kind == "cpu" else "multiprocessors"
    return (
        f"{caps.name}, {caps.num_cores} {cores}, {caps.total_memory / 2**30:.0f} GiB; "
        f"quire {quire.__version__}, torch {torch.__version__}, "
        f"Python {platform.python_version()}; {date.today().isoformat()}"
    )
