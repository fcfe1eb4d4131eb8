"""The benchmarks' own promises."""

import subprocess
import sys
import time
from pathlib import Path

import psutil

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_a_sitting_that_is_terminated_leaves_no_process() -> None:
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--size=tiny", "--only=llama-8b/mixed"]
    sitting = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while not (children := psutil.Process(sitting.pid).children(recursive=True)):
            assert sitting.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        sitting.terminate()
        assert sitting.wait(20) != 0
        _, alive = psutil.wait_procs(children, timeout=5)
        assert not alive
    finally:
        sitting.kill()
