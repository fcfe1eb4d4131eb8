"""What a process sets for the libraries that it loads."""

import os
import subprocess
import sys

import pytest

SHOW = "import os; print(os.environ.get('GOMP_SPINCOUNT'))"


@pytest.mark.parametrize(
    ("program", "environment", "spins"),
    [
        (f"from quire import SamplingParams; {SHOW}", {}, "1000"),
        (f"from quire import SamplingParams; {SHOW}", {"OMP_WAIT_POLICY": "active"}, "None"),
        (f"from quire import SamplingParams; {SHOW}", {"GOMP_SPINCOUNT": "7"}, "7"),
        (f"from quire.cli.main import run; run(['--version']); {SHOW}", {}, "1000"),
    ],
)
def test_threads_leave_their_cores(program: str, environment: dict[str, str], spins: str) -> None:
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, "-c", program]
    shown = subprocess.run(command, env=plain | environment, capture_output=True, text=True)
    assert shown.stdout.split()[-1] == spins, shown.stderr
