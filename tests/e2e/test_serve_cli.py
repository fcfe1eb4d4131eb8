"""`quire serve` and the commands that talk to it, as processes: keys, limits, batches, signals."""

import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from quire.cli.main import run
from served import ENVIRONMENT, QUIRE, Served

Captured = pytest.CaptureFixture[str]
SMALL = ("--kv-cache-memory-bytes", "32MiB", "--dtype", "float32")
LONG: dict[str, Any] = {"prompt": "Once", "ignore_eos": True, "temperature": 0}
QUESTION = [{"role": "user", "content": "What is the capital of South Korea?"}]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text("alice:sk-alice\nbob:sk-bob:2\n")
    file.chmod(0o600)
    return file


@pytest.fixture(scope="module")
def server(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One with keys, a small body limit and two names, told in three different ways."""
    config = tmp_path_factory.mktemp("config") / "serve.yaml"
    config.write_text("served-model-name: [box, other]\nmax-body-bytes: 20k\nport: 1\n")
    arguments = (*SMALL, "--config", str(config), "--api-key-file", str(keys))
    with Served(*arguments, QUIRE_API_KEY="sk-env", QUIRE_RESPONSE_ROLE="helper") as served:
        yield served


def client(served: Served, key: str | None = None) -> httpx.Client:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return httpx.Client(base_url=served.address, headers=headers, timeout=60)


def ask(served: Served, key: str | None = None, **body: Any) -> httpx.Response:
    with client(served, key) as http:
        return http.post("/v1/completions", json={"prompt": "Hello", "max_tokens": 3, **body})


class Stream(threading.Thread):
    """A streamed completion, read in the background."""

    def __init__(self, served: Served, **body: Any) -> None:
        super().__init__()
        self._served, self._body = served, {**LONG, **body, "stream": True}
        self.begun = threading.Event()
        self.events: list[str] = []
        self.start()

    def run(self) -> None:
        with (
            client(self._served) as http,
            http.stream("POST", "/v1/completions", json=self._body) as response,
        ):
            for line in response.iter_lines():
                if line:
                    self.events.append(line.removeprefix("data: "))
                    self.begun.set()

    def ended(self) -> list[Any]:
        """Its events as JSON; the last one, [DONE], is checked here."""
        self.join(60)
        assert self.events[-1] == "[DONE]"
        return [json.loads(event) for event in self.events[:-1]]


def test_it_prints_where_it_listens(server: Served) -> None:
    log = server.log()
    assert f"listening on {server.address}" in log
    assert f"{server.address}/ is the page to open" in log
    assert server.address.startswith("http://127.0.0.1:")


@pytest.mark.parametrize("key", ["sk-alice", "sk-bob", "sk-env"])
def test_keys_from_file_and_variable(server: Served, key: str) -> None:
    assert ask(server, key).status_code == 200
    assert ask(server, key + "x").status_code == 401
    assert ask(server).status_code == 401
    assert key not in server.log()


def test_names_and_roles_from_file_and_variable(server: Served) -> None:
    with client(server, "sk-env") as http:
        listed = http.get("/v1/models").json()["data"]
        assert [card["id"] for card in listed] == ["box", "other"]
        answer = http.post(
            "/v1/chat/completions", json={"model": "other", "messages": QUESTION, "temperature": 0}
        ).json()
    assert answer["model"] == "box"
    assert answer["choices"][0]["message"]["role"] == "helper"
    assert "Seoul" in answer["choices"][0]["message"]["content"]


def test_bodies_are_bounded(server: Served) -> None:
    refused = ask(server, "sk-env", prompt="x" * 20_001)
    assert refused.status_code == 413
    assert "--max-body-bytes" in refused.json()["error"]["message"]


def test_a_deadline_in_the_request(server: Served) -> None:
    began = time.monotonic()
    late = ask(server, "sk-env", **LONG, max_tokens=400, timeout=0.2)
    assert late.status_code == 504
    assert "deadline passed after 0.2 s" in late.json()["error"]["message"]
    assert time.monotonic() - began < 10
    assert ask(server, "sk-env", timeout=-1).status_code == 400
    assert ask(server, "sk-env", timeout=60).status_code == 200


# --- the commands that talk to it ---


def test_complete_and_chat_at_a_url(server: Served, capsys: Captured) -> None:
    there = ["--url", server.address, "--api-key", "sk-bob", "--temperature", "0"]
    assert run(["complete", *there, "-q", "The capital of", "--max-tokens", "5", "--echo"]) == 0
    assert len(capsys.readouterr().out) > len("The capital of\n")
    question = ["-q", "What is the capital of South Korea?", "--model-name", "other"]
    assert run(["chat", *there, "--system-prompt", "Answer the question.", *question]) == 0
    assert "Seoul" in capsys.readouterr().out
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patched:
        patched.setattr(sys, "stdin", io.StringIO("What is the capital of South Korea?\n"))
        assert run(["chat", *there, "box"]) == 0
    assert "Seoul" in capsys.readouterr().out


def test_chat_at_a_url_imports_no_engine(server: Served) -> None:
    program = (
        "import sys; from quire.cli.main import run;"
        "status = run(sys.argv[1:]);"
        "sys.exit(status or ' '.join({'torch', 'transformers'} & set(sys.modules)) or None)"
    )
    arguments = ["chat", "--url", server.address, "--temperature", "0", "--max-tokens", "4"]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=ENVIRONMENT | {"QUIRE_API_KEY": "sk-alice"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "3 prompts answered by box at http://127.0.0.1" in done.stdout
    assert "cut after 4 tokens" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--url", "http://127.0.0.1:9"], "cannot reach http://127.0.0.1:9/v1/models"),
        (["--url", "http://a:b"], "cannot reach http://a:b/v1/models"),
        (["--url", "SERVER"], "the server answered 401: Unauthorized; give --api-key"),
        (["--url", "SERVER", "--api-key", "sk-bob", "nobody"], "answered 404: The model `nobody`"),
        (["--url", "SERVER", "--max-model-len", "8"], "--max-model-len: not with --url"),
        (["--api-key", "x"], "--api-key and --model-name need --url"),
    ],
)
def test_what_goes_wrong_at_a_url(
    server: Served, capsys: Captured, arguments: list[str], message: str
) -> None:
    words = [word.replace("SERVER", server.address) for word in arguments]
    assert run(["complete", "-p", "x", *words]) in (1, 2)
    error = capsys.readouterr().err
    assert error.startswith("quire: error: ")
    assert error.count("\n") == 1
    assert message in error


# --- batches ---


def batch_line(custom_id: str, url: str, **body: Any) -> str:
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": body})


BATCH = [
    batch_line("chat", "/v1/chat/completions", messages=QUESTION, temperature=0),
    "not JSON",
    batch_line("text", "/v1/completions", prompt="The capital of", max_tokens=5, temperature=0),
    batch_line("vector", "/v1/embeddings", input="hello"),
    "",
    batch_line("wrong", "/v1/completions", prompt="x", temperature=-1),
    batch_line("text", "/v1/completions", prompt="again"),
    batch_line("nowhere", "/v1/nothing", prompt="x"),
    batch_line("stream", "/v1/completions", prompt="x", stream=True),
    '{"custom_id": "bare"}',
    "[]",
]


def check_batch(file: Path) -> None:
    results = [json.loads(line) for line in file.read_text().splitlines()]
    assert [r["custom_id"] for r in results] == [
        *("chat", None, "text", "vector", "wrong", "text", "nowhere", "stream", "bare", None)
    ]
    chat, junk, text, vector, wrong, twice, nowhere, stream, bare, _ = results
    assert len({r["id"] for r in results}) == len(results)
    for good in (chat, text, vector):
        assert good["error"] is None
        assert good["response"]["status_code"] == 200
        assert good["response"]["request_id"]
    assert "Seoul" in chat["response"]["body"]["choices"][0]["message"]["content"]
    assert text["response"]["body"]["usage"]["completion_tokens"] <= 5
    assert len(vector["response"]["body"]["data"][0]["embedding"]) > 16
    assert wrong["response"]["status_code"] == 400
    assert wrong["error"]["param"] == "temperature"
    for bad, words in (
        (junk, "line 2 is not JSON"),
        (twice, "line 7: the custom_id was there before"),
        (nowhere, "url must be one of"),
        (stream, "stream has no place in a batch"),
        (bare, "url must be one of"),
    ):
        assert bad["response"] is None
        assert words in bad["error"]["message"]


def test_run_batch_here(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text("\n".join(BATCH))
    done = subprocess.run(
        [*QUIRE, "run-batch", "-i", "in.jsonl", "-o", "out.jsonl", *SMALL],
        env=ENVIRONMENT,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert "10 requests answered" in done.stderr
    assert "7 failed" in done.stderr
    assert done.stdout == ""
    check_batch(tmp_path / "out.jsonl")


def test_run_batch_at_a_url(server: Served, tmp_path: Path, capsys: Captured) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("\n".join(BATCH))
    arguments = ["run-batch", "-i", str(source), "-o", str(target), "--url", server.address]
    assert run([*arguments, "--api-key", "sk-env", "--concurrency", "2"]) == 0
    check_batch(target)
    assert run(arguments) == 1
    assert "401: Unauthorized" in capsys.readouterr().err
    assert run(["run-batch", "-i", "/no/such", "-o", str(target), "--url", "x"]) == 1
    assert "/no/such: No such file" in capsys.readouterr().err
    assert run(["run-batch", "-i", str(source), "-o", str(source), "--url", "x"]) == 1
    assert "is the input" in capsys.readouterr().err


# --- limits and signals ---


def test_a_full_queue_and_a_graceful_end() -> None:
    """One runs, nobody may wait: 429. After SIGTERM: 503 for the new, the running one goes on."""
    with Served(*SMALL, "--max-num-seqs", "1", "--max-queue", "0") as served:
        stream = Stream(served, max_tokens=300)
        assert stream.begun.wait(30)
        busy = ask(served)
        assert busy.status_code == 429
        assert int(busy.headers["Retry-After"]) >= 1
        assert "--max-queue allows 0" in busy.json()["error"]["message"]
        assert stream.is_alive(), "the stream is too short for this test"
        served.terminate()
        time.sleep(0.1)
        closing = ask(served)
        assert closing.status_code == 503
        assert int(closing.headers["Retry-After"]) >= 1
        events = stream.ended()
        assert events[-1]["choices"][0]["finish_reason"] == "length"
        assert sum(bool(event["choices"][0]["text"]) for event in events) > 50
        assert served.exit_status() == 0


def test_the_end_comes_in_time() -> None:
    with Served(*SMALL, "--shutdown-timeout", "0.2", "--request-timeout", "60") as served:
        stream = Stream(served, max_tokens=500)
        assert stream.begun.wait(30)
        began = time.monotonic()
        served.terminate()
        assert served.exit_status() == 0
        assert time.monotonic() - began < 15
        stream.join(20)
        assert len(stream.events) < 500


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/no/such/model"], "/no/such/model"),
        (["--port", "1", "--host", "192.0.2.1"], "cannot listen on 192.0.2.1:1"),
        (["--chat-template", "/no/such.jinja"], "/no/such.jinja"),
        (["--tool-call-parser", "nonsense"], "nonsense"),
        (["--max-model-len", "1000000000"], "1000000000"),
    ],
)
def test_what_cannot_be_served_is_said_in_a_line(arguments: list[str], message: str) -> None:
    done = subprocess.run(
        [*QUIRE, "serve", "--port", "0", *arguments],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 1, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("quire: error: ")
    assert message in last
    assert "Traceback" not in done.stderr
