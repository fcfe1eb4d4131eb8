"""A real Prometheus scrapes a real server, and the Grafana dashboard's questions are put to it.

One test, as starting both takes longer than all the questions.

Needs Prometheus (Debian's package `prometheus`); without it the test is skipped, and says so.
"""

import json
import math
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest
import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/quire.json").read_text())
PROMETHEUS = shutil.which("prometheus")
KEYS = {"alice": "key-of-alice", "bob": "key-of-bob"}
WINDOW = "5s"  # what $__rate_interval becomes; there is a scrape a second
# Longer than a page, so that the second request of each finds it in the prefix cache.
PREFIX = "Count from one to twenty, one number after the other, without a pause: one, two, three, "

Answers = dict[tuple[str, str], list[float]]


def panels() -> list[tuple[str, str]]:
    """(title, expression) of every query of the dashboard."""
    return [
        (panel["title"], target["expr"])
        for panel in DASHBOARD["panels"]
        for target in panel.get("targets", ())
    ]


def filled_in(expression: str, model: str = ".*") -> str:
    """An expression as Grafana sends it."""
    for name, value in {"prefix": "quire", "model": model, "__rate_interval": WINDOW}.items():
        expression = expression.replace(f"${{{name}}}", value).replace(f"${name}", value)
    assert "$" not in expression, expression
    return expression


def wait_for(what: str, ready: Callable[[], Any], seconds: float) -> Any:
    """The first true answer of `ready`; what it says in the end if there is none."""
    deadline, answer = time.monotonic() + seconds, None
    while time.monotonic() < deadline:
        try:
            answer = ready()
        except (URLError, ConnectionError, TimeoutError) as error:
            answer = None
            last: object = error
        else:
            last = answer
        if answer:
            return answer
        time.sleep(0.1)
    pytest.fail(f"{what}: not within {seconds:g} s; {last!r}")


def get(url: str) -> bytes:
    with urlopen(url, timeout=5) as response:
        body: bytes = response.read()
    return body


@dataclass
class Sent:
    """What the clients were told: per key name, and of all requests."""

    requests: dict[str, int]
    prompt_tokens: dict[str, int]
    generated: dict[str, int]


class Prometheus:
    """Its HTTP API."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **parameters: str) -> Any:
        reply = json.loads(get(f"{self.url}/api/v1/{path}?{urlencode(parameters)}"))
        assert reply["status"] == "success", reply
        return reply["data"]

    def values(self, expression: str, model: str = ".*") -> list[float]:
        """The value of every series of the answer, now."""
        data = self.get("query", query=filled_in(expression, model))
        assert data["resultType"] == "vector"
        return [float(series["value"][1]) for series in data["result"]]

    def value(self, expression: str) -> float:
        (value,) = self.values(expression)
        return value


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """`quire serve` on the model in the box, with two keys; its address."""
    folder = tmp_path
    keys = folder / "keys"
    keys.write_text("".join(f"{name}:{secret}\n" for name, secret in KEYS.items()))
    command = [sys.executable, "-c", "from quire.cli.main import main; main()", "serve"]
    options = ["--host", "127.0.0.1", "--port", "0", "--api-key-file", str(keys)]
    log = folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen([*command, *options], stdout=output, stderr=output)

    def address() -> str | None:
        assert process.poll() is None, log.read_text()
        found = re.search(r"listening on (\S+)", log.read_text())
        return found and found[1]

    try:
        url = wait_for("the server's address", address, 30)
        wait_for("the server's health", lambda: get(f"{url}/health") == b"", 60)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture
def prometheus(server: str, tmp_path: Path) -> Iterator[Prometheus]:
    """Started with the configuration of deploy/, but for the address and the intervals."""
    folder = tmp_path / "prometheus"
    folder.mkdir()
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (job,) = config["scrape_configs"]
    job["static_configs"] = [{"targets": [server.removeprefix("http://")]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert PROMETHEUS is not None
    command = [
        PROMETHEUS,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    log = folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
    client = Prometheus(f"http://127.0.0.1:{port}")

    def scraped() -> bool:
        assert process.poll() is None, log.read_text()
        return client.values("up == 1") == [1.0]

    try:
        wait_for("a first scrape", scraped, 30)
        yield client
    finally:
        process.terminate()
        process.wait(15)


def complete(url: str, key: str, number: int, stream: bool) -> tuple[int, int]:
    """One completion; its prompt and completion tokens, as the client was told."""
    body = {
        "prompt": PREFIX + str(number % 3),
        "max_tokens": 24,
        "ignore_eos": True,
        "temperature": 0,
        "stream": stream,
        **({"stream_options": {"include_usage": True}} if stream else {}),
    }
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEYS[key]}"}
    request = Request(f"{url}/v1/completions", json.dumps(body).encode(), headers)
    with urlopen(request, timeout=60) as response:
        text = response.read().decode()
    if stream:
        events = [line[6:] for line in text.splitlines() if line.startswith("data: {")]
        text = events[-1]
    usage = json.loads(text)["usage"]
    return usage["prompt_tokens"], usage["completion_tokens"]


@pytest.fixture
def sent(server: str, prometheus: Prometheus) -> Sent:
    """Traffic of four clients for some seconds; ready once Prometheus has seen the end of it."""
    total = Sent(*(dict.fromkeys(KEYS, 0) for _ in range(3)))
    end = time.monotonic() + 4

    def client(number: int) -> list[tuple[str, int, int]]:
        key = "bob" if number == 3 else "alice"
        done = []
        while time.monotonic() < end:
            done.append((key, *complete(server, key, len(done), stream=bool(len(done) % 2))))
        return done

    with ThreadPoolExecutor(4) as pool:
        for done in pool.map(client, range(4)):
            for key, prompt, generated in done:
                total.requests[key] += 1
                total.prompt_tokens[key] += prompt
                total.generated[key] += generated
    everything = sum(total.generated.values())
    assert everything > 0
    wait_for(
        "the last scrape",
        lambda: prometheus.values("quire:generation_tokens_total") == [everything],
        10,
    )
    return total


@pytest.fixture
def answers(sent: Sent, prometheus: Prometheus) -> Answers:
    """What Prometheus says to each expression of the dashboard, right after the traffic."""
    return {panel: prometheus.values(panel[1]) for panel in panels()}


def check_every_panel_has_an_answer(answers: Answers) -> None:
    without = [panel for panel, values in answers.items() if not values]
    assert without == [], "no data"
    odd = [panel for panel, values in answers.items() if any(map(math.isnan, values))]
    assert odd == [], "not a number"


MAIN_PANELS = (
    "Requests ended",
    "Tokens generated",
    "Prefix hit rate",
    "Time to first token",
    "Time between tokens",
    "Time per output token",
    "End to end",
    "Tokens a second",
    "Prompt tokens",
    "Front end, CPU per token",
    "Requests a second",
    "Latency, p90",
)


def check_main_panels_show_something(answers: Answers) -> None:
    for title in MAIN_PANELS:
        values = [max(values) for panel, values in answers.items() if panel[0] == title]
        assert values, title
        assert all(value > 0 for value in values), (title, values)


def check_what_clients_were_told_is_what_was_counted(sent: Sent, prometheus: Prometheus) -> None:
    number = sum(sent.requests.values())
    prompts, generated = sum(sent.prompt_tokens.values()), sum(sent.generated.values())
    for expression, expected in {
        "sum(quire:request_success_total)": number,
        'quire:request_success_total{finished_reason="length"}': number,
        "quire:time_to_first_token_seconds_count": number,
        "quire:e2e_request_latency_seconds_count": number,
        "quire:request_time_per_output_token_seconds_count": number,
        "quire:prompt_tokens_total": prompts,
        "quire:prefix_cache_queries_total": prompts,
        "quire:request_generation_tokens_sum": generated,
        "quire:iteration_tokens_total_sum + on() quire:prompt_tokens_cached_total": (
            prompts + generated
        ),
        'sum(http_requests_total{handler="/v1/completions",method="POST",status="2xx"})': number,
    }.items():
        assert prometheus.value(expression) == expected, expression
    for key in KEYS:
        label = f'{{api_key_name="{key}"}}'
        assert prometheus.value(f"quire:usage_requests_total{label}") == sent.requests[key]
        assert (
            prometheus.value(f"quire:usage_prompt_tokens_total{label}") == sent.prompt_tokens[key]
        )
        assert (
            prometheus.value(f"quire:usage_generation_tokens_total{label}") == (sent.generated[key])
        )


def check_latencies_throughput_and_cache_use(sent: Sent, prometheus: Prometheus) -> None:
    """Figures that must hold together, whatever the machine's speed."""

    def mean(name: str) -> float:
        return prometheus.value(f"quire:{name}_sum / quire:{name}_count")

    ttft, tpot = mean("time_to_first_token_seconds"), mean("request_time_per_output_token_seconds")
    e2e = mean("e2e_request_latency_seconds")
    assert 0 < ttft < e2e < 30
    assert tpot > 0
    # All requests are of one length: arrival to first token, then 23 times a token.
    assert e2e == pytest.approx(ttft + 23 * tpot, rel=0.25)
    assert mean("inter_token_latency_seconds") == pytest.approx(tpot, rel=0.25)
    peak = prometheus.value(f"max_over_time(rate(quire:generation_tokens_total[{WINDOW}])[20s:1s])")
    assert peak > sum(sent.generated.values()) / 60
    hits = prometheus.value("quire:prefix_cache_hits_total / quire:prefix_cache_queries_total")
    assert 0.3 < hits < 1
    assert 0 < prometheus.value("max_over_time(quire:kv_cache_usage_perc[30s])") <= 1
    assert prometheus.value("max_over_time(quire:num_requests_running[30s])") <= 4
    assert prometheus.value("quire:num_requests_running") == 0  # and now it is idle
    assert prometheus.value("quire:kv_cache_usage_perc") == 0


def check_the_model_can_be_chosen(sent: Sent, prometheus: Prometheus) -> None:
    (variable,) = (v for v in DASHBOARD["templating"]["list"] if v["name"] == "model")
    query = filled_in(variable["query"]["query"])
    metric, label = re.fullmatch(r"label_values\((\S+), (\S+)\)", query).groups()  # type: ignore[union-attr]
    assert prometheus.get(f"label/{label}/values", **{"match[]": metric}) == ["boxed"]
    for _, expression in panels():
        if "model_name" in expression:
            assert prometheus.values(expression, "another") == [], expression


def check_names_and_types_arrive(prometheus: Prometheus) -> None:
    targets = prometheus.get("targets")["activeTargets"]
    assert [(t["health"], t["lastError"]) for t in targets] == [("up", "")]
    metadata = prometheus.get("metadata")
    assert metadata["quire:time_to_first_token_seconds"][0]["type"] == "histogram"
    assert metadata["quire:generation_tokens_total"][0]["type"] == "counter"
    assert metadata["quire:num_requests_running"][0]["type"] == "gauge"


@pytest.mark.skipif(PROMETHEUS is None, reason="no prometheus here; apt-get install prometheus")
def test_the_dashboard_against_a_real_prometheus(
    sent: Sent, answers: Answers, prometheus: Prometheus
) -> None:
    check_every_panel_has_an_answer(answers)
    check_main_panels_show_something(answers)
    check_what_clients_were_told_is_what_was_counted(sent, prometheus)
    check_latencies_throughput_and_cache_use(sent, prometheus)
    check_the_model_can_be_chosen(sent, prometheus)
    check_names_and_types_arrive(prometheus)


def test_dashboard_is_in_order() -> None:
    """What Grafana itself would trip over."""
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        covered = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & covered, panel["title"]
        cells |= covered
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == "${datasource}"
    assert [v["name"] for v in DASHBOARD["templating"]["list"]] == ["datasource", "prefix", "model"]


def test_deployment_files_fit_together() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yml").read_text())
    assert set(compose["services"]) == {"quire", "prometheus", "grafana"}
    for service in compose["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).exists(), volume
            else:
                assert source in compose["volumes"], volume
    build = compose["services"]["quire"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).is_file()
    (job,) = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["quire:8000"]}]
    provisioning = DEPLOY / "grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((provisioning / "dashboards/quire.yml").read_text())["providers"]
    mounted = {v.split(":")[1] for v in compose["services"]["grafana"]["volumes"]}
    assert provider["options"]["path"] in mounted
    gpu = yaml.safe_load((DEPLOY / "compose.gpu.yml").read_text())
    assert set(gpu["services"]) == {"quire"}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here")
def test_promtool_takes_the_configuration() -> None:
    done = subprocess.run(
        ["promtool", "check", "config", DEPLOY / "prometheus/prometheus.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
