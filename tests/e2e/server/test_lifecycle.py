"""Clients that leave, clients that are slow, a server that loads, and one that stops."""

import contextlib
import json
import re
import socket
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from served import Served

COMPLETIONS = "/v1/completions"
LONG = {"prompt": "Hello", "max_tokens": 450, "ignore_eos": True, "stream": True}


def gauge(http: httpx.Client, name: str) -> float:
    found = re.search(rf"^quire:{name}{{.*}} (\S+)$", http.get("/metrics").text, re.MULTILINE)
    assert found is not None, name
    return float(found[1])


def wait_until_idle(http: httpx.Client, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while http.get("/load").json()["server_load"] or gauge(http, "num_requests_running"):
        assert time.monotonic() < deadline, "still running"
        time.sleep(0.05)


def raw_request(address: str, body: dict[str, object], path: str = "/v1/completions") -> bytes:
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {urlsplit(address).netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


def connect(address: str, receive_buffer: int | None = None) -> socket.socket:
    place = urlsplit(address)
    sock = socket.socket()
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(30)
    sock.connect((place.hostname, place.port))
    return sock


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_pages(
    served: Served, http: httpx.Client, stream: bool
) -> None:
    body = LONG | {"stream": stream, "n": 4, "temperature": 1.0}
    with connect(served.address) as sock:
        sock.sendall(raw_request(served.address, body))
        if stream:
            assert sock.recv(1000)
        else:
            deadline = time.monotonic() + 10
            while not gauge(http, "num_requests_running"):
                assert time.monotonic() < deadline
    started = time.monotonic()
    wait_until_idle(http)
    assert time.monotonic() - started < 3  # 450 tokens of four would take longer
    assert gauge(http, "kv_cache_usage_perc") == 0


def test_a_slow_client_holds_nobody_up(served: Served, http: httpx.Client) -> None:
    """It reads nothing while others are served, and then finds everything, in few pieces."""
    body = LONG | {"logprobs": 20, "n": 8, "temperature": 1.0}
    with connect(served.address, receive_buffer=4096) as sock:
        sock.sendall(raw_request(served.address, body))
        started = time.monotonic()
        response = http.post("/v1/completions", json={"prompt": "Hi", "max_tokens": 8})
        assert response.status_code == 200
        deadline = time.monotonic() + 60
        while gauge(http, "num_requests_running"):  # it runs to its end all the same
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert time.monotonic() - started < 60
        data = b""
        while not data.endswith(b"0\r\n\r\n"):
            piece = sock.recv(1 << 20)
            assert piece
            data += piece
    text = b"".join(re.split(rb"\r\n[0-9a-f]+\r\n", data.split(b"\r\n\r\n", 1)[1])).decode()
    assert text.count('"finish_reason":"length"') == 8
    assert "data: [DONE]" in text
    assert text.count("data: ") < 8 * 450
    wait_until_idle(http)


def test_a_half_sent_request_is_no_request(served: Served, http: httpx.Client) -> None:
    with connect(served.address) as sock:
        sock.sendall(raw_request(served.address, LONG)[:-5])
    assert http.get("/health").status_code == 200
    wait_until_idle(http)


def test_loading_and_stopping() -> None:
    """It answers from the start; SIGTERM takes nothing new, and finishes what runs."""
    server = Served("--dtype", "float32", "--max-model-len", "512")
    try:
        deadline = time.monotonic() + 30
        while not (found := re.search(r"listening on (http\S+)", server.log())):
            assert time.monotonic() < deadline, server.log()
            time.sleep(0.01)
        with httpx.Client(base_url=found[1], timeout=30) as http:
            health = http.get("/health")
            assert health.status_code == 503
            assert health.json()["status"] == "loading"
            assert health.json()["progress"]
            assert http.get("/ready").status_code == 503
            early = http.post("/v1/completions", json={"prompt": "x"})
            assert early.status_code == 503
            assert early.headers["retry-after"].isdigit()
            assert early.json()["error"]["type"] == "ServiceUnavailableError"
            while http.get("/health").status_code != 200:
                assert time.monotonic() < deadline + 30
                time.sleep(0.05)
            texts: list[str] = []
            running = threading.Thread(target=lambda: texts.append(stream_all(found[1])))
            running.start()
            while not http.get("/load").json()["server_load"]:
                time.sleep(0.005)
            server.terminate()
            while http.get("/ready").status_code == 200:
                time.sleep(0.005)
            late = http.post("/v1/completions", json={"prompt": "x"})
            assert (late.status_code, late.headers["retry-after"].isdigit()) == (503, True)
            running.join(30)
        assert texts[0].endswith("data: [DONE]\n\n")
        assert texts[0].count('"finish_reason":"length"') == 1
        assert server.exit_status() == 0
    finally:
        server.__exit__()


def test_a_second_signal_ends_everything() -> None:
    """The one that runs and the one that waits are both told, and nothing is logged in anger."""
    with (
        Served("--max-model-len", "2048", "--max-num-seqs", "1") as server,
        httpx.Client(base_url=server.address, timeout=30) as http,
    ):
        body = LONG | {"max_tokens": 2000}
        answers: list[httpx.Response] = []
        clients = [
            threading.Thread(target=lambda: answers.append(http.post(COMPLETIONS, json=body)))
            for _ in range(2)
        ]
        for number, client in enumerate(clients, 1):
            client.start()
            while http.get("/load").json()["server_load"] < number:
                time.sleep(0.005)
        while not gauge(http, "generation_tokens_total"):
            time.sleep(0.005)
        server.terminate()
        while http.get("/ready").status_code == 200:
            time.sleep(0.005)
        server.terminate()
        for client in clients:
            client.join(20)
        waiting, running = sorted(answers, key=lambda answer: answer.status_code, reverse=True)
        assert (waiting.status_code, waiting.json()["error"]["code"]) == (503, 503)
        error, done, end = running.text.split("\n\n")[-3:]
        assert json.loads(error.removeprefix("data: "))["error"]["code"] == 503
        assert (done, end) == ("data: [DONE]", "")
        assert server.exit_status() == 0
        assert "Traceback" not in server.log()


def stream_all(address: str) -> str:
    return httpx.post(f"{address}/v1/completions", json=LONG, timeout=60).text


def test_a_model_that_is_not_there() -> None:
    server = Served("/nowhere/at/all")
    try:
        assert server.exit_status() == 1
        last = server.log().strip().splitlines()[-1]
        assert "/nowhere/at/all" in last
    finally:
        server.__exit__()


def test_a_unix_socket(tmp_path: Path) -> None:
    """The one a killed server left behind is taken over; a clean end removes its own."""
    path = tmp_path / "quire.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    server = Served("--uds", str(path), "--max-model-len", "512")
    try:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), timeout=20) as http:
            deadline = time.monotonic() + 60
            while True:
                assert time.monotonic() < deadline, server.log()
                with contextlib.suppress(httpx.TransportError):
                    if http.get("http://quire/health").status_code == 200:
                        break
                time.sleep(0.05)
            body = {"prompt": "Hi", "max_tokens": 1}
            assert http.post("http://quire/v1/completions", json=body).status_code == 200
        server.terminate()
        assert server.exit_status() == 0
        assert not path.exists()
    finally:
        server.__exit__()
