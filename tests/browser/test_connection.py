"""The page and its connection in Chromium: reloads, cuts, second tabs, a server that dies. What must never happen to a reader."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import statistics
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, Page, Route, expect
from tests.browser.driving import PATIENCE, answer, ask, ended, last, run_of, shown, stage, started, step, when
from tests.browser.scripted import HELD
from tests.browser.story import TOKENS, long_text
from tests.conftest import SOAK, count

from tidelog.testing import Process

pytestmark = pytest.mark.anyio

FIRST_TEXT = 500
"""ms from the first request for a run to its first text, after a reload."""
WHEN_FIRST = """
let asked = 0;
const fetched = window.fetch;
window.fetch = (...given) => {
  if (String(given[0]).includes("/events")) asked ||= performance.now();
  return fetched(...given);
};
new MutationObserver((_, observer) => {
  if (!document.querySelector(".answer")?.textContent) return;
  observer.disconnect();
  window.firstText = [performance.now() - asked, performance.now()];
}).observe(document, { childList: true, subtree: true, characterData: true });
"""


# Reload, at any moment


@pytest.mark.soak
async def test_reload_at_random_tokens(context: BrowserContext, page: Page, server: Process) -> None:
    """So many answers, each reloaded at a random token: the text is that of an undisturbed one, and one run made it."""
    chance, times = random.Random(5), list[tuple[float, float]]()
    await context.add_init_script(WHEN_FIRST)
    for turn in range(count(3, 100)):
        question, at = f"reload {turn}", chance.randrange(1, TOKENS - 20)
        await page.goto(f"{server.url}/long/")
        await ask(page, question)
        await when(page, lambda text, at=at: text.count(" ") >= at)  # type: ignore[misc]
        await page.reload()
        await ended(page)
        assert await answer(page) == "".join(long_text(question))
        assert await last(page, ".asked").text_content() == question
        assert await started(page, server, question) == 1
        times.append(await page.evaluate("window.firstText"))
    since_asked, since_reload = zip(*times, strict=True)
    for name, spent in (("the reconnect", since_asked), ("the reload", since_reload)):
        print(f"first text after {name}: median {statistics.median(spent):.0f} ms, slowest {max(spent):.0f} ms")
    assert not SOAK or max(since_asked) < FIRST_TEXT


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
    assert await started(page, server, question) == 1


async def test_a_second_tab_watches_live_and_goes_on_with_the_first(
    context: BrowserContext, page: Page, server: Process
) -> None:
    """What one tab stops, continues or asks next, the other shows."""
    await page.goto(f"{server.url}/long/")
    await ask(page, "hold tabs")
    whole = "".join(long_text("hold tabs"))
    seen = await when(page, lambda text: text.count(" ") >= HELD)
    other = await context.new_page()
    await other.goto(page.url)
    assert await when(other, lambda text: text.count(" ") >= HELD) == seen
    await expect(last(other)).to_have_attribute("data-phase", "answering")
    await other.get_by_role("button", name="Stop").click()
    await asyncio.gather(ended(page, "stopped"), ended(other, "stopped"))
    stopped = await run_of(page)
    await page.get_by_role("button", name="Continue").click()
    await when(page, lambda text: text.count(" ") >= 2 * HELD)
    assert (await when(other, lambda text: text.count(" ") >= 2 * HELD)).startswith(seen)
    await step(page, server, "hold tabs")
    await asyncio.gather(ended(page), ended(other))
    assert await answer(page) == await answer(other) == whole
    assert await run_of(page) == await run_of(other) != stopped
    await ask(other, "fail")
    await expect(shown(page)).to_have_text(["hold tabs", "fail"])
    await asyncio.gather(ended(page, "failed"), ended(other, "failed"))


# A connection that breaks


async def test_a_body_that_breaks_off_is_taken_up_again(page: Page, server: Process) -> None:
    """Twice it ends without an ending, once in the middle of a frame; then every frame comes double."""
    asked = list[int]()

    async def broken(route: Route) -> None:
        asked.append(int(route.request.url.rpartition("after=")[2]))
        if len(asked) > 3:
            await route.continue_()
            return
        reply = await page.request.get(
            route.request.url, headers={"Accept": "application/x-ndjson"}, params={"wait": "5"}
        )
        frames = [f"data: {line}\n\n" for line in (await reply.text()).splitlines()]
        bodies = (
            "".join(frames)[: sum(map(len, frames[:3])) + 9],
            "".join(frames[:-1]) + "data: {",
            "".join(frames * 2),
        )
        await route.fulfill(content_type="text/event-stream", body=bodies[len(asked) - 1])

    await page.route("**/events*", broken)
    await page.goto(f"{server.url}/long/")
    await ask(page, "broken")
    await ended(page)
    assert await answer(page) == "".join(long_text("broken"))
    assert len(asked) in (3, 4), "the third may have had the ending in it"
    assert asked[:2] == [0, 3]
    assert asked == sorted(asked)


async def test_what_is_missing_is_asked_for_again(page: Page, server: Process) -> None:
    held = list[str]()

    async def holed(route: Route) -> None:
        held.append(route.request.url)
        if len(held) > 1:
            await route.continue_()
            return
        reply = await page.request.get(
            route.request.url, headers={"Accept": "application/x-ndjson"}, params={"wait": "5"}
        )
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
    await expect(last(page, ".status")).to_have_text("Connection lost; coming back")
    down = False
    await page.evaluate("dispatchEvent(new Event('online'))")
    await ended(page)
    assert await answer(page) == "".join(long_text("away"))


async def test_a_lost_connection_is_told_however_often_it_is_tried_again(page: Page, server: Process) -> None:
    """In a page whose time stands still but for what the test lets pass: 400 ms to the second try, 700 to the word."""
    await page.clock.install()
    await page.goto(f"{server.url}/long/")
    await page.evaluate(
        """() => {
            const through = fetch;
            window.tries = 0;
            window.fetch = (url, ...rest) => {
                if (!url.includes("/events")) return through(url, ...rest);
                tries += 1;
                return Promise.reject(new TypeError("refused"));
            };
        }"""
    )
    await page.clock.pause_at(await page.evaluate("Date.now() + 1000"))
    await ask(page, "lost")
    async with asyncio.timeout(PATIENCE / 1000):
        while await page.evaluate("tries") < 1:  # noqa: ASYNC110 (the page tells nobody)
            await asyncio.sleep(0.01)
    await page.clock.run_for(410)
    assert await page.evaluate("tries") == 2
    await page.clock.run_for(450)
    assert await last(page, ".status").text_content() == "Connection lost; coming back"


async def test_two_heartbeats_without_a_byte_are_the_end_of_a_connection(page: Page, server: Process) -> None:
    asked, first, never = list[str](), asyncio.Event(), asyncio.Event()

    async def silent(route: Route) -> None:
        asked.append(route.request.url)
        first.set()
        if len(asked) == 1:
            await never.wait()
        await route.continue_()

    await page.clock.install()
    await page.route("**/events*", silent)
    await page.goto(f"{server.url}/long/")
    await ask(page, "silent")
    await expect(last(page, ".status")).to_have_text("Sending the question")
    await asyncio.wait_for(first.wait(), 10.0)
    await page.clock.fast_forward(29_000)
    assert len(asked) == 1
    await page.clock.fast_forward(2_000)
    await ended(page)
    assert len(asked) == 2
    never.set()


@pytest.mark.parametrize(("status", "text"), [(404, "There is no such conversation here"), (410, "no longer kept")])
async def test_a_run_that_is_gone(page: Page, server: Process, status: int, text: str) -> None:
    if status == 410:
        await page.route("**/runs/*", lambda route: route.fulfill(status=410, json={"code": "expired"}))
    await page.goto(f"{server.url}/#run={'a' * 26}")
    await expect(page.locator("#notice")).to_contain_text(text)
    await expect(page.locator("#stop")).to_be_hidden()


async def test_the_address_of_a_run_leads_to_its_conversation(page: Page, server: Process) -> None:
    await page.goto(f"{server.url}/long/#chat")
    for question in ("one", "two"):
        await ask(page, question)
        await ended(page)
    run, place = await page.locator(".turn").first.get_attribute("data-run"), page.url
    await page.goto(f"{server.url}/long/#run={run}")
    await expect(page).to_have_url(place)
    await expect(shown(page)).to_have_text(["one", "two"])


async def test_after_kill_the_page_learns_the_truth(page: Page, tmp_path: Path) -> None:
    """The server is killed in mid-answer and started again: the page comes back by itself and is told `interrupted`."""
    with stage(tmp_path) as first:
        await page.goto(f"{first.url}/long/#rag")
        await ask(page, "hold kill")
        partial = await when(page, lambda text: text.count(" ") >= HELD)
        first.signal(signal.SIGKILL)
        first.wait()
        port = int(first.url.rpartition(":")[2])
        await expect(last(page, ".status")).to_have_text("Connection lost; coming back")
    with stage(tmp_path, port=port) as second:
        await ended(page, "interrupted")
        assert await answer(page) == partial
        await expect(last(page, ".trouble")).to_contain_text("Press Continue to go on from here")
        await step(page, second, "hold kill")
        await page.get_by_role("button", name="Continue").click()
        await ended(page)
        assert await answer(page) == "".join(long_text("hold kill"))
