"""The page at /, in a real browser: a message is sent, its answer streams and can be stopped, the
engine's pages are seen to move; a key is asked for, and a dead engine is lived through."""

import shutil
import signal
from collections.abc import Callable, Iterator

import psutil
import pytest

from served import Served

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to open it with")
sync_api = pytest.importorskip("playwright.sync_api", reason="there is no Playwright to drive it")
expect = sync_api.expect

Open = Callable[..., "sync_api.Page"]
SLOW = ("--dtype", "float32", "--max-model-len", "1024", "--kv-cache-memory-bytes", "16MiB")


@pytest.fixture(scope="module")
def browser() -> Iterator["sync_api.Browser"]:
    expect.set_options(timeout=20_000)
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser: "sync_api.Browser") -> Iterator[Open]:
    """Opens a server's page; afterwards nothing has gone wrong on it, nor been asked elsewhere."""
    problems: list[str] = []
    pages: list[sync_api.Page] = []

    def open_(server: Served, width: int = 1280, **settings: str) -> "sync_api.Page":
        def elsewhere(url: str) -> bool:
            return not url.startswith((home, "data:"))

        home = server.address.removesuffix("/llm")
        page = browser.new_page(viewport={"width": width, "height": 800}, **settings)
        pages.append(page)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
        page.on("request", lambda r: problems.append(r.url) if elsewhere(r.url) else None)
        page.goto(server.address)
        return page

    yield open_
    for page in pages:
        page.close()
    # A refused request is on the console too; the page says what it means.
    assert [p for p in problems if "status of 401" not in p and "status of 503" not in p] == []


def slowly(page: "sync_api.Page") -> None:
    """From now on answers are long."""

    def lengthen(route: "sync_api.Route") -> None:
        body = route.request.post_data_json | {"ignore_eos": True, "max_tokens": 300}
        route.continue_(post_data=body)

    page.route("**/v1/chat/completions", lengthen)


def say(page: "sync_api.Page", text: str) -> None:
    expect(page.locator("#state")).to_have_text("ready")
    page.get_by_label("Message").fill(text)
    page.keyboard.press("Enter")


def test_a_conversation(served: Served, open_page: Open) -> None:
    page = open_page(served)
    page.get_by_text("Settings").click()
    page.get_by_label("Temperature").fill("0")
    say(page, "What is the capital of France?")
    expect(page.locator("#model")).to_have_text("boxed")
    answer = page.locator(".turn.assistant .text")
    expect(answer).to_have_text("The capital of France is Paris.")
    expect(page.locator(".foot")).to_contain_text("tokens/s")
    page.get_by_role("button", name="again").click()
    expect(answer).to_have_text("The capital of France is Paris.")
    expect(answer).to_have_count(1)
    page.get_by_role("button", name="New chat").click()
    expect(page.locator(".turn")).to_have_count(0)


def test_stopping_while_the_pages_move(served: Served, open_page: Open) -> None:
    page = open_page(served)
    slowly(page)
    canvas = page.locator("#maps canvas")
    expect(canvas).to_have_attribute("data-held", "0")
    say(page, "Tell me a story.")
    expect(page.locator(".turn.assistant .text")).not_to_be_empty()
    expect(page.locator("#requests")).to_contain_text("this page")
    expect(canvas).not_to_have_attribute("data-held", "0")
    expect(page.locator("#throughput")).to_contain_text("peak")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".foot")).to_contain_text("stopped")
    expect(canvas).to_have_attribute("data-held", "0")
    expect(canvas).not_to_have_attribute("data-cached", "0")
    expect(page.locator("#send")).to_have_text("Send")


def test_on_a_phone_with_a_keyboard_alone(served: Served, open_page: Open) -> None:
    page = open_page(served, width=390, color_scheme="dark")
    expect(page.locator("#state")).to_have_text("ready")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.evaluate("document.activeElement.id") == "say"
    page.keyboard.type("Hello")
    page.keyboard.press("Enter")
    expect(page.locator(".foot")).to_contain_text("again")
    expect(page.locator("#engine")).not_to_be_visible()
    page.get_by_role("button", name="Engine").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#engine")).to_be_visible()
    expect(page.locator("#running")).to_have_text("0")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.keyboard.press("Enter")
    expect(page.locator("#engine")).not_to_be_visible()


def test_a_key_and_a_dead_engine(open_page: Open) -> None:
    """The key is asked for and kept; an engine killed in mid-answer is a pause."""
    with Served(*SLOW, "--root-path", "/llm", QUIRE_API_KEY="sk-page") as server:
        page = open_page(server)
        expect(page.locator("#state")).to_have_text("needs a key")
        page.get_by_label("API key").fill("sk-page")
        page.keyboard.press("Tab")
        expect(page.locator("#state")).to_have_text("ready")
        expect(page.get_by_label("API key")).not_to_be_visible()
        page.reload()
        slowly(page)
        say(page, "Tell me a story.")
        expect(page.locator(".turn.assistant .text")).not_to_be_empty()
        (engine,) = psutil.Process(server.process.pid).children()
        engine.send_signal(signal.SIGKILL)
        expect(page.locator("#state")).to_contain_text("restarting")
        expect(page.locator("#state")).to_have_text("ready")
        expect(page.locator(".foot")).to_contain_text("300 tokens", timeout=60_000)
        expect(page.locator("#facts")).to_contain_text("restarted 1×")
        expect(page.locator(".bad")).to_have_count(0)
        page.close()  # before the server is gone
