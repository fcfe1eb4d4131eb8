"""One server on the boxed model for the tests of this folder, in a process of its own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import pytest

KEY, OTHER_KEY = "first-secret", "second-secret"

SERVER = """
import json, sys
from quire.core.config import engine_config
from quire.server.config import ApiKey, ServerConfig
from quire.server.run import run
from quire.server.state import ServerState

options = json.loads(sys.argv[1])
keys = tuple(ApiKey(f"key{i}", secret) for i, secret in enumerate(options["keys"]))
config = engine_config(
    dtype="float32", max_model_len=512, max_num_seqs=16, kv_cache_memory_bytes=32 << 20
)
server = ServerConfig(host="127.0.0.1", port=0, api_keys=keys, max_stored_responses=6)
run(ServerState(config, server), lambda address: print(address, flush=True))
"""


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of a server that is ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, json.dumps({"keys": [KEY, OTHER_KEY]})],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address, "the server ended before it listened"
        deadline = time.monotonic() + 60
        while httpx.get(f"{address}/health").status_code != 200:
            assert process.poll() is None, "the server ended while loading"
            assert time.monotonic() < deadline, "the server is not ready after a minute"
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


@pytest.fixture
def http(server: str) -> Iterator[httpx.Client]:
    """A plain client with the first key."""
    with httpx.Client(
        base_url=server, headers={"Authorization": f"Bearer {KEY}"}, timeout=30
    ) as client:
        yield client


@pytest.fixture(scope="session")
def keys() -> tuple[str, str]:
    """Two keys the server takes."""
    return KEY, OTHER_KEY
