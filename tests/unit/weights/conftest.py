"""A stand-in for the Hugging Face Hub on the loopback interface, spoken to by the real client."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

COMMIT = hashlib.sha1(b"main").hexdigest()
TOKEN = "hf_right"

# Runs in a child, because the client reads its environment when it is imported.
CHILD = """
import json, sys
from quire.weights import source
results = []
for call in json.load(sys.stdin):
    function = getattr(source, call.pop("function"))
    load_format = call.pop("load_format", None)
    arguments = [source.ModelSource(**call)] + ([load_format] if load_format else [])
    try:
        results.append(["ok", str(function(*arguments))])
    except Exception as error:
        results.append([type(error).__name__, str(error)])
assert "torch" not in sys.modules
print(json.dumps(results))
"""


class FakeHub:
    """Repositories as dicts of file names to bytes; `asked` lists every path requested."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.gated: set[str] = set()
        self.asked: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                hub.answer(self, body=False)

            def do_GET(self) -> None:
                hub.answer(self, body=True)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, request: BaseHTTPRequestHandler, *, body: bool) -> None:
        """The few routes of the Hub's API that reading a model needs."""
        path = unquote(urlsplit(request.path).path)
        self.asked.append(path)
        parts = path.strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        if api:
            parts = parts[2:]
        name, parts = "/".join(parts[:2]), parts[2:]
        kind, revision = parts[0] if parts else "", parts[1] if len(parts) > 1 else "main"
        files = self.repositories.get(name)
        if files is None:
            return self._send(request, 401, {"X-Error-Code": "RepoNotFound"}, b"", body)
        right = request.headers.get("authorization") == f"Bearer {TOKEN}"
        if name in self.gated and not right and not (api and kind != "tree"):
            return self._send(request, 401, {"X-Error-Code": "GatedRepo"}, b"", body)
        if revision not in ("main", COMMIT):
            return self._send(request, 404, {"X-Error-Code": "RevisionNotFound"}, b"", body)
        if not api:
            return self._resolve(request, files, "/".join(parts[2:]), body)
        answer: Any = [
            {"type": "file", "path": file, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
            for file, data in files.items()
        ]
        if kind != "tree":
            siblings = [{"rfilename": file} for file in files]
            answer = {"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings}
        data = json.dumps(answer).encode()
        return self._send(request, 200, {"Content-Type": "application/json"}, data, body)

    def _resolve(
        self, request: BaseHTTPRequestHandler, files: dict[str, bytes], file: str, body: bool
    ) -> None:
        if file not in files:
            headers = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}
            return self._send(request, 404, headers, b"", body)
        etag = hashlib.sha1(files[file]).hexdigest()
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}
        return self._send(request, 200, headers, files[file], body)

    @staticmethod
    def _send(
        request: BaseHTTPRequestHandler,
        status: int,
        headers: dict[str, str],
        data: bytes,
        body: bool,
    ) -> None:
        request.send_response(status)
        for key, value in headers.items():
            request.send_header(key, value)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        if body:
            request.wfile.write(data)


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    """A running `FakeHub`."""
    made = FakeHub()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        made.server.server_close()
        thread.join()


Ask = Callable[..., list[tuple[str, str]]]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Calls functions of `weights.source` in a fresh process with the given environment."""

    def call(calls: list[dict[str, Any]], **environment: str) -> list[tuple[str, str]]:
        keep = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
        settings = {
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        done = subprocess.run(
            [sys.executable, "-c", CHILD],
            input=json.dumps(calls),
            env={**keep, **settings, **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        results: list[tuple[str, str]] = [tuple(r) for r in json.loads(done.stdout)]
        return results

    return call
