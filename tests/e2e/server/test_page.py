"""The page at /, in a real browser: a message is sent, its answer streams, and can be stopped."""

import shutil
from collections.abc import Iterator

import pytest

from served import Served

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to open it with")
sync_api = pytest.importorskip("playwright.sync_api", reason="there is no Playwright to drive it")


@pytest.fixture(scope="module")
def browser() -> Iterator["sync_api.Browser"]:
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def page(served: Served, browser: "sync_api.Browser") -> Iterator["sync_api.Page"]:
    opened = browser.new_page(viewport={"width": 900, "height": 700})
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
    opened.on("request", lambda r: problems.append(r.url) if served.address not in r.url else None)
    opened.goto(served.address)
    yield opened
    opened.close()
    assert [p for p in problems if not p.startswith("data:")] == []


def test_a_conversation(page: "sync_api.Page") -> None:
    sync_api.expect(page.locator("#state")).to_have_text("ready")
    sync_api.expect(page.locator("#model")).to_have_text("boxed")
    page.get_by_text("Settings").click()
    page.get_by_label("Temperature").fill("0")
    page.get_by_label("Message").fill("What is the capital of France?")
    page.keyboard.press("Enter")
    answer = page.locator(".turn.assistant .text")
    sync_api.expect(answer).to_have_text("The capital of France is Paris.")
    sync_api.expect(page.locator(".foot")).to_contain_text("tokens/s")
    page.get_by_role("button", name="again").click()
    sync_api.expect(answer).to_have_text("The capital of France is Paris.")
    sync_api.expect(answer).to_have_count(1)
    page.get_by_role("button", name="New chat").click()
    sync_api.expect(page.locator(".turn")).to_have_count(0)


def test_stopping(page: "sync_api.Page") -> None:
    def slowly(route: "sync_api.Route") -> None:
        body = route.request.post_data_json | {"ignore_eos": True, "max_tokens": 400}
        route.continue_(post_data=body)

    page.route("**/v1/chat/completions", slowly)
    sync_api.expect(page.locator("#state")).to_have_text("ready")
    page.get_by_label("Message").fill("Tell me a story.")
    page.get_by_role("button", name="Send").click()
    sync_api.expect(page.locator(".turn.assistant .text")).not_to_be_empty()
    page.get_by_role("button", name="Stop").click()
    sync_api.expect(page.locator(".foot")).to_contain_text("stopped")
    sync_api.expect(page.locator("#send")).to_have_text("Send")
