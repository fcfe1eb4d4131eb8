"""`quire serve` in a process of its own, as a user starts it, for the end-to-end tests."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from typing import IO, Self

import httpx

QUIRE = [sys.executable, "-m", "quire.cli.main"]
# Other tests run beside these: two threads that wait for each other on a busy core crawl.
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("QUIRE_")} | {
    "OMP_NUM_THREADS": "1"
}
READY_SECONDS = 90.0
STOP_SECONDS = 30.0


class Served:
    """A server on a free port; ends with the `with` block, whatever happens."""

    def __init__(self, *arguments: str, **variables: str) -> None:
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self.process = subprocess.Popen(
            [*QUIRE, "serve", *arguments, "--host", "127.0.0.1", "--port", "0"],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=ENVIRONMENT | variables,
        )
        self.address = ""

    def __enter__(self) -> Self:
        try:
            self._wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._log.close()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            found = re.search(r"listening on (http\S+)", self.log())
            if found:
                self.address = found[1]
                try:
                    if httpx.get(f"{self.address}/health", timeout=5).status_code == 200:
                        return
                except httpx.HTTPError:
                    pass
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended: {self.log()}")
            time.sleep(0.05)
        raise AssertionError(f"not ready after {READY_SECONDS} s: {self.log()}")

    def log(self) -> str:
        """Everything printed so far."""
        # Without moving the place in the file, which is the server's, too: what it printed just
        # after a seek was written over what it had printed first.
        file = self._log.fileno()
        return os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace")

    def terminate(self) -> None:
        """SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def exit_status(self) -> int:
        """Wait for the end."""
        return self.process.wait(STOP_SECONDS)
