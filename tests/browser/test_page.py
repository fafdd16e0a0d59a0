"""The built-in page in Chromium, against `tidelog serve`: what a newcomer does, and what must never happen to her."""

from __future__ import annotations

import asyncio
import json
import random
import re
import signal
import statistics
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, Page, Route, expect
from tests.conftest import SOAK, count

from tidelog.testing import Process, serve_process

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from stage import TOKENS, long_text  # noqa: E402

pytestmark = pytest.mark.anyio

LOCK = "How do I lock the bike?"
PATIENCE = 30_000
"""ms that the page gets for what it must do."""
FIRST_TEXT = 500
"""ms from the first request for a run to its first text, after a reload."""
WHEN_FIRST = """
new MutationObserver((_, observer) => {
  if (!document.getElementById("answer")?.textContent) return;
  observer.disconnect();
  const asked = performance.getEntriesByType("resource").find((one) => one.name.includes("/events"));
  window.firstText = performance.now() - (asked?.startTime ?? performance.now());
}).observe(document, { childList: true, subtree: true, characterData: true });
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with serve_process("stage:app", cwd=HERE, env={"STAGE": str(tmp_path_factory.mktemp("stage"))}) as server:
        yield server


@pytest.fixture
async def page(context: BrowserContext) -> AsyncIterator[Page]:
    """A page that must not complain: no exception, and no violation of its policy."""
    page, errors = await context.new_page(), list[str]()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if "Security Policy" in line.text else None)
    page.set_default_timeout(PATIENCE)
    yield page
    assert errors == []


async def ask(page: Page, question: str, *, pace: str = "30") -> None:
    await page.locator("#pace").select_option(pace)
    await page.locator("#question").fill(question)
    await page.keyboard.press("Enter")


async def ended(page: Page, phase: str = "completed") -> None:
    await expect(page.locator(f'#turn[data-phase="{phase}"]')).to_be_visible(timeout=PATIENCE)


async def answer(page: Page) -> str:
    return await page.locator("#answer").text_content() or ""


async def when(page: Page, condition: Callable[[str], bool]) -> str:
    """The answer's text, once it is so."""
    async with asyncio.timeout(PATIENCE / 1000):
        while not condition(text := await answer(page)):
            await asyncio.sleep(0.01)
    return text


def run_of(page: Page) -> str:
    found = re.search(r"#run=([a-z2-7]{26})$", page.url)
    assert found is not None, page.url
    return found[1]


# What a newcomer does


@pytest.mark.parametrize(
    ("question", "title", "text"),
    [
        ("What is the deposit?", "Millbrook Bicycles: rider's handbook", "The deposit is 40 euros."),
        ("押金", "柳河单车骑行手册", "押金为三百元。"),
    ],
)
async def test_sources_come_first_then_the_answer(
    page: Page, server: Process, question: str, title: str, text: str
) -> None:
    await page.goto(server.url)
    await ask(page, question, pace="6")
    card = page.locator("#cards li").first
    await expect(card).to_contain_text(title)
    assert text not in await answer(page)
    await expect(page.locator("#status")).to_have_text("Answering")
    await when(page, lambda shown: shown.startswith(text))
    await page.get_by_role("button", name="Source 1").first.click()
    await expect(card).to_be_focused()


async def test_the_banner_tells_the_truth(page: Page, server: Process) -> None:
    await page.goto(server.url)
    await expect(page.locator(".banner")).to_contain_text("extractive")
    await expect(page.locator(".banner")).to_contain_text("No language model is attached")
    await expect(page.locator("#about")).to_contain_text("5 documents")


async def test_it_speaks_the_language_of_the_browser(browser: Browser, server: Process) -> None:
    context = await browser.new_context(locale="zh-CN")
    page = await context.new_page()
    await page.goto(server.url)
    await expect(page.get_by_role("heading", level=1)).to_have_text("向您的文档提问")
    await expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    await page.get_by_role("button", name="English").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Ask your documents")
    await page.reload()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Ask your documents")
    await context.close()


async def test_enter_that_chooses_a_character_sends_nothing(page: Page, server: Process) -> None:
    await page.goto(server.url)
    await page.locator("#question").fill("押金")
    await page.locator("#question").dispatch_event("keydown", {"key": "Enter", "isComposing": True})
    await page.locator("#question").press("Shift+Enter")
    await expect(page.locator("#question")).to_have_value("押金\n")
    await expect(page.locator("#turn")).to_be_hidden()


async def test_it_fits_a_phone(browser: Browser, server: Process) -> None:
    context = await browser.new_context(viewport={"width": 320, "height": 640})
    page = await context.new_page()
    await page.goto(server.url)
    await ask(page, LOCK, pace="0")
    await ended(page)
    assert await page.evaluate("document.documentElement.scrollWidth") == 320
    await context.close()


# Stop, continue, retry


async def test_stop_keeps_the_text_and_offers_to_go_on(page: Page, server: Process) -> None:
    await page.goto(server.url)
    await ask(page, LOCK, pace="0")
    await ended(page)
    whole, first = await answer(page), run_of(page)
    await expect(page.get_by_role("button", name="Continue")).to_be_hidden()
    await page.get_by_role("button", name="Retry").click()
    await expect(page).not_to_have_url(re.compile(first))
    await ended(page)
    assert await answer(page) == whole

    await ask(page, LOCK, pace="12")
    await when(page, lambda shown: len(shown) > 20)
    await page.get_by_role("button", name="Stop").click()
    await ended(page, "stopped")
    partial, stopped = await answer(page), run_of(page)
    assert 20 < len(partial) < len(whole)
    await page.reload()
    await ended(page, "stopped")
    assert await answer(page) == partial
    await expect(page.get_by_role("button", name="Retry")).to_be_visible()
    await page.get_by_role("button", name="Continue").click()
    await expect(page).not_to_have_url(re.compile(stopped))
    await ended(page)
    assert await answer(page) == whole
    assert await page.locator("#cards li").count() == 4


async def test_stop_before_the_run_has_a_name(page: Page, server: Process) -> None:
    go = asyncio.Event()

    async def held(route: Route) -> None:
        await go.wait()
        await route.continue_()

    await page.route("**/rag", held)
    await page.goto(server.url)
    await ask(page, LOCK, pace="6")
    await page.get_by_role("button", name="Stop").click()
    await expect(page.locator("#status")).to_have_text("Stopping")
    go.set()
    await ended(page, "stopped")


# Reload, at any moment


async def test_reload_at_any_token(context: BrowserContext, page: Page, server: Process) -> None:
    await a_reload(context, page, server, number=count(3, 10))


@pytest.mark.soak
@pytest.mark.skipif(not SOAK, reason="make soak")
async def test_reload_at_a_hundred_tokens(context: BrowserContext, page: Page, server: Process) -> None:
    times = await a_reload(context, page, server, number=100)
    print(f"first text after a reload: median {statistics.median(times):.0f} ms, slowest {max(times):.0f} ms")
    assert max(times) < FIRST_TEXT


async def a_reload(context: BrowserContext, page: Page, server: Process, *, number: int) -> list[float]:
    """So many answers, each reloaded at a random token: the text is that of an undisturbed one, and one run made it."""
    chance, times = random.Random(5), list[float]()
    await context.add_init_script(WHEN_FIRST)
    for turn in range(number):
        question, at = f"reload {turn} of {number}", chance.randrange(1, TOKENS - 20)
        await page.goto(f"{server.url}/long/")
        await ask(page, question)
        await when(page, lambda shown, at=at: shown.count(" ") >= at)  # type: ignore[misc]
        await page.reload()
        await ended(page)
        assert await answer(page) == "".join(long_text(question))
        assert await page.locator("#asked").text_content() == question
        times.append(await page.evaluate("window.firstText"))
        started = await page.request.get(f"{server.url}/long/started", params={"question": question})
        assert await started.json() == 1
    return times


@pytest.mark.parametrize("how", ["reload", "by itself", "never sent"])
async def test_cut_before_the_first_id_it_is_still_one_run(page: Page, server: Process, how: str) -> None:
    """The server starts the run, and the page never hears of it; or the start never reaches the server."""
    cut = asyncio.Event()

    async def lose(route: Route) -> None:
        if not cut.is_set():
            if how != "never sent":
                await route.fetch()
            await route.abort("connectionreset")
            cut.set()
        else:
            await route.continue_()

    question = f"cut: {how}"
    await page.route("**/long/rag", lose)
    await page.goto(f"{server.url}/long/")
    await ask(page, question)
    await asyncio.wait_for(cut.wait(), 30)
    if how == "reload":
        await page.reload()
    await ended(page)
    assert await answer(page) == "".join(long_text(question))
    started = await page.request.get(f"{server.url}/long/started", params={"question": question})
    assert await started.json() == 1


async def test_a_second_tab_watches_live(context: BrowserContext, page: Page, server: Process) -> None:
    await page.goto(f"{server.url}/long/")
    await ask(page, "two tabs")
    await when(page, lambda shown: shown.count(" ") > 20)
    other = await context.new_page()
    await other.goto(page.url)
    seen = await when(other, bool)
    await expect(other.locator("#turn")).to_have_attribute("data-phase", "answering")
    await when(other, lambda shown: len(shown) > len(seen))
    await asyncio.gather(ended(page), ended(other))
    assert await answer(page) == await answer(other) == "".join(long_text("two tabs"))


async def test_a_second_tab_goes_on_with_the_first(context: BrowserContext, page: Page, server: Process) -> None:
    await page.goto(server.url)
    await ask(page, LOCK, pace="6")
    await when(page, bool)
    other = await context.new_page()
    await other.goto(page.url)
    await other.get_by_role("button", name="Stop").click()
    await asyncio.gather(ended(page, "stopped"), ended(other, "stopped"))
    assert await answer(page) == await answer(other)
    await page.get_by_role("button", name="Continue").click()
    await expect(other).not_to_have_url(page.url)
    await asyncio.gather(ended(page), ended(other))
    assert run_of(page) == run_of(other)


# A connection that breaks


async def test_a_body_that_breaks_off_is_taken_up_again(page: Page, server: Process) -> None:
    """Twice it ends without an ending, once in the middle of a frame; then every frame comes double."""
    asked = list[int]()

    async def broken(route: Route) -> None:
        asked.append(int(route.request.url.rpartition("after=")[2]))
        if len(asked) > 3:
            await route.continue_()
            return
        reply = await page.request.get(route.request.url, headers={"Accept": "application/x-ndjson"}, params={"wait": "5"})
        frames = [f"data: {line}\n\n" for line in (await reply.text()).splitlines()]
        bodies = ("".join(frames)[: sum(map(len, frames[:3])) + 9], "".join(frames) + "data: {", "".join(frames * 2))
        await route.fulfill(content_type="text/event-stream", body=bodies[len(asked) - 1])

    await page.route("**/events*", broken)
    await page.goto(f"{server.url}/long/")
    await ask(page, "broken")
    await ended(page)
    assert await answer(page) == "".join(long_text("broken"))
    assert len(asked) == 4
    assert asked[:2] == [0, 3]
    assert asked == sorted(asked)


async def test_what_is_missing_is_asked_for_again(page: Page, server: Process) -> None:
    held = list[str]()

    async def holed(route: Route) -> None:
        held.append(route.request.url)
        if len(held) > 1:
            await route.continue_()
            return
        reply = await page.request.get(route.request.url, headers={"Accept": "application/x-ndjson"}, params={"wait": "5"})
        frames = [json.loads(line) for line in (await reply.text()).splitlines()]
        frames.append({"seq": frames[-1]["seq"] + 5, "type": "text.delta", "part": "p1", "text": "never shown"})
        body = "".join(f"data: {json.dumps(frame)}\n\n" for frame in frames)
        await route.fulfill(content_type="text/event-stream", body=body)

    await page.route("**/events*", holed)
    await page.goto(f"{server.url}/long/")
    await ask(page, "holed")
    await ended(page)
    assert await answer(page) == "".join(long_text("holed"))


async def test_it_tells_that_it_is_coming_back_and_wakes_at_once(page: Page, server: Process) -> None:
    down = True

    async def refused(route: Route) -> None:
        await (route.fulfill(status=503, headers={"Retry-After": "600"}) if down else route.continue_())

    await page.route("**/events*", refused)
    await page.goto(f"{server.url}/long/")
    await ask(page, "away")
    await expect(page.locator("#status")).to_have_text("Connection lost; coming back")
    down = False
    await page.evaluate("dispatchEvent(new Event('online'))")
    await ended(page)
    assert await answer(page) == "".join(long_text("away"))


@pytest.mark.parametrize(("status", "text"), [(404, "There is no such answer here"), (410, "no longer kept")])
async def test_a_run_that_is_gone(page: Page, server: Process, status: int, text: str) -> None:
    if status == 410:
        await page.route("**/events*", lambda route: route.fulfill(status=410, json={"code": "expired"}))
    await page.goto(f"{server.url}/#run={'a' * 26}")
    await expect(page.locator("#status")).to_contain_text(text)
    await expect(page.locator("#stop")).to_be_hidden()


async def test_a_failure_is_told(page: Page, server: Process) -> None:
    await page.goto(f"{server.url}/long/")
    await ask(page, "fail")
    await ended(page, "failed")
    await expect(page.locator("#status")).to_have_text("Failed: The tide is out.")
    await expect(page.get_by_role("button", name="Retry")).to_be_visible()


async def test_after_kill_the_page_learns_the_truth(page: Page, tmp_path: Path) -> None:
    """The server is killed in mid-answer and started again: the page comes back by itself and is told `interrupted`."""
    env = {"STAGE": str(tmp_path)}
    with serve_process("stage:app", cwd=HERE, env=env) as first:
        await page.goto(first.url)
        await ask(page, LOCK, pace="6")
        partial = await when(page, lambda shown: len(shown) > 20)
        first.signal(signal.SIGKILL)
        first.wait()
        port = int(first.url.rpartition(":")[2])
        await expect(page.locator("#status")).to_have_text("Connection lost; coming back")
    with serve_process("stage:app", cwd=HERE, env=env, port=port):
        await ended(page, "interrupted")
        assert (await answer(page)).startswith(partial)
        await page.locator("#pace").select_option("0")
        await page.get_by_role("button", name="Continue").click()
        await ended(page)
        assert "docks unlock --all" in await answer(page)


# What it shows is text


async def test_nothing_becomes_markup(page: Page, server: Process) -> None:
    question = "<img src=x onerror=alert(1)> & <b>bold</b>"
    await page.goto(f"{server.url}/long/")
    await ask(page, question)
    await expect(page.locator("#asked")).to_have_text(question)
    await expect(page.locator("#cards li")).to_contain_text("<i>Tides</i>")
    await ended(page)
    assert await answer(page) == "".join(long_text(question))
    assert await page.locator("#turn :is(img, b, i)").count() == 0


async def test_screen_readers_hear_sentences(page: Page, server: Process) -> None:
    """Each once: what was spoken, piece by piece, is the answer without its marks."""
    await page.goto(server.url)
    await page.evaluate(
        "window.spoken = []; new MutationObserver(() => spoken.push(document.getElementById('spoken').textContent))"
        ".observe(document.getElementById('spoken'), { childList: true })"
    )
    await ask(page, "What is the deposit?", pace="30")
    await ended(page)
    said = " ".join(await page.evaluate("spoken"))
    assert re.sub(r"\s+", " ", said).strip() == (
        "The deposit is 40 euros. "
        "We return it within seven working days after you close your account, unless a bicycle is still out in your name."
    )


async def test_earlier_questions_are_links(page: Page, server: Process) -> None:
    await page.goto(server.url)
    for question in ("What is the deposit?", "押金", "quantum gravity"):
        await ask(page, question, pace="0")
        await expect(page.locator("#asked")).to_have_text(question)
        await ended(page)
    await expect(page.locator("#history a")).to_have_count(2)
    await page.locator("#history a").last.click()
    await expect(page.locator("#asked")).to_have_text("What is the deposit?")
    await when(page, lambda shown: shown.startswith("The deposit is 40 euros."))
    await page.go_back()
    await expect(page.locator("#asked")).to_have_text("quantum gravity")
    await page.locator("#home").click()
    await expect(page.get_by_role("heading", level=1)).to_be_visible()
    await expect(page.locator("#turn")).to_be_hidden()
