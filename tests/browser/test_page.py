"""The built-in page in Chromium, against `tidelog serve`: what a newcomer does."""

from __future__ import annotations

import asyncio
import re

import pytest
from playwright.async_api import Browser, Page, Route, expect
from tests.browser.driving import LOCK, answer, ask, ended, last, run_of, shown, step, when
from tests.browser.scripted import ABOUT, HELD
from tests.browser.story import long_text

from tidelog.testing import Process

pytestmark = pytest.mark.anyio


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
    await page.locator("#pace option").first.evaluate("option => { option.value = '2' }")  # for slow machines
    await ask(page, question, pace="2")
    card = last(page, ".cards li").first
    await expect(card).to_contain_text(title)
    assert text not in await answer(page)
    await expect(last(page, ".status")).to_have_text("Answering")
    await when(page, lambda said: said.startswith(text))
    await page.get_by_role("button", name="Source 1").first.click()
    await expect(card).to_be_focused()


async def test_the_banner_tells_the_truth(page: Page, server: Process) -> None:
    await page.goto(server.url)
    await expect(page.locator("#answerer")).to_contain_text("extractive")
    await expect(page.locator("#answerer")).to_contain_text("No language model is attached")
    await page.get_by_text("Attach a model").click()
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_BASE_URL"):
        await expect(page.locator("#how")).to_contain_text(name)
    await page.get_by_role("link", name="Agent").click()
    await expect(page.locator("#answerer")).to_contain_text("Scripted")
    await page.goto(f"{server.url}/long/")
    await expect(page.locator("#answerer")).to_have_text("tide-1 answers (a compatible server).")
    await expect(page.locator("#attach")).to_be_hidden()
    await expect(page.locator("#pace")).to_be_hidden()


@pytest.mark.parametrize(
    ("locale", "before", "after"),
    [
        ("en", "The model server at http://127.0.0.1:9 is attached; it has not named its model yet.", "tide-1 answers"),
        (
            "zh-CN",
            "已接入 http://127.0.0.1:9 的模型服务器，它还没有给出模型名称。",
            "由 tide-1（兼容接口的服务器）回答。",
        ),
    ],
)
async def test_the_banner_of_a_server_that_has_not_answered(
    browser: Browser, server: Process, locale: str, before: str, after: str
) -> None:
    """What it is called is learnt with the first answer."""
    context = await browser.new_context(locale=locale)
    page, told = await context.new_page(), False

    async def about(route: Route) -> None:
        model = {"name": "tide-1" if told else None, "provider": "compatible", "place": "http://127.0.0.1:9"}
        await route.fulfill(json={**ABOUT, "model": model})

    await page.route("**/about", about)
    await page.goto(f"{server.url}/long/#chat")
    await expect(page.locator("#answerer")).to_have_text(before)
    told = True
    await ask(page, "who")
    await expect(page.locator("#answerer")).to_contain_text(after)
    await context.close()


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
    await expect(shown(page)).to_have_count(0)


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
    await page.goto(f"{server.url}/long/")
    whole = "".join(long_text("hold on"))
    await ask(page, "hold on")
    await when(page, lambda text: text.count(" ") >= HELD)
    await expect(page.get_by_role("button", name="Continue")).to_be_hidden()
    await page.get_by_role("button", name="Stop").click()
    await ended(page, "stopped")
    partial, stopped = await answer(page), await run_of(page)
    assert whole.startswith(partial)
    await page.reload()
    await ended(page, "stopped")
    assert await answer(page) == partial
    await step(page, server, "hold on")
    go = asyncio.Event()

    async def late(route: Route) -> None:
        await go.wait()
        await route.continue_()

    await page.route("**/events*", late)
    await page.get_by_role("button", name="Continue").click()
    await expect(last(page)).not_to_have_attribute("data-run", stopped)
    await expect(last(page, ".status")).to_have_text("Searching the documents")
    assert await answer(page) == partial
    go.set()
    await ended(page)
    assert await answer(page) == whole
    continued = await run_of(page)
    await step(page, server, "hold on")
    await page.get_by_role("button", name="Retry").click()
    await expect(last(page)).not_to_have_attribute("data-run", continued)
    await ended(page)
    assert await answer(page) == whole
    await expect(shown(page)).to_have_count(1)
    assert await last(page, ".cards li").count() == 1


async def test_a_run_and_its_phase_are_shown_together(page: Page, server: Process) -> None:
    """Nobody may take the end of the old run for that of the new one."""
    await page.goto(f"{server.url}/long/")
    await ask(page, "hold together")
    await step(page, server, "hold together")
    await ended(page)
    old = await run_of(page)
    await page.evaluate(
        """() => {
            const turn = document.querySelector(".turn");
            window.seen = [];
            new MutationObserver(() => seen.push([turn.dataset.run, turn.dataset.phase])).observe(turn, { attributes: true });
        }"""
    )
    await page.get_by_role("button", name="Retry").click()
    await expect(last(page)).not_to_have_attribute("data-run", old)
    first = next(phase for run, phase in await page.evaluate("seen") if run != old)
    assert first != "completed"  # the new one cannot have ended: it waits for its step
    await step(page, server, "hold together")
    await ended(page)


async def test_the_built_in_answerer_goes_on(page: Page, server: Process) -> None:
    await page.goto(server.url)
    await ask(page, LOCK, pace="6")
    await when(page, lambda text: len(text) > 10)
    await page.get_by_role("button", name="Stop").click()
    await ended(page, "stopped")
    partial, sources = await answer(page), await last(page, ".cards li").count()
    await page.get_by_role("button", name="Continue").click()
    await when(page, lambda text: text.startswith(partial) and len(text) > len(partial))
    assert await last(page, ".cards li").count() == sources
    await page.get_by_role("button", name="Stop").click()
    await ended(page, "stopped")


async def test_stop_before_the_run_has_a_name(page: Page, server: Process) -> None:
    go = asyncio.Event()

    async def held(route: Route) -> None:
        await go.wait()
        await route.continue_()

    await page.route("**/rag", held)
    await page.goto(server.url)
    await ask(page, LOCK, pace="6")
    await page.get_by_role("button", name="Stop").click()
    await expect(last(page, ".status")).to_have_text("Stopping")
    go.set()
    await ended(page, "stopped")


# What it shows is text


async def test_nothing_becomes_markup(page: Page, server: Process) -> None:
    question = "<img src=x onerror=alert(1)> & <b>bold</b>"
    await page.goto(f"{server.url}/long/")
    await ask(page, question)
    await expect(last(page, ".asked")).to_have_text(question)
    await expect(last(page, ".cards li")).to_contain_text("<i>Tides</i>")
    await ended(page)
    assert await answer(page) == "".join(long_text(question))
    assert await page.locator("#turns :is(img, b, i)").count() == 0


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


async def test_conversations_are_kept_as_links(page: Page, server: Process) -> None:
    await page.goto(f"{server.url}/long/")
    for mode, question in (("Chat", "first"), ("Agent", "fail here"), ("Chat", "second")):
        await page.get_by_role("link", name=mode, exact=True).click()
        await expect(page.get_by_role("heading", level=1)).to_be_visible()
        await ask(page, question)
        await expect(page.locator("#recent a").first).to_contain_text(question)
    await ended(page)
    await ask(page, "more")
    await ended(page)
    await expect(page.locator("#recent .title")).to_have_text(["second", "fail here", "first"])
    await page.locator("#recent a").last.click()
    await expect(shown(page)).to_have_text(["first"])
    await expect(page.locator("#recent a[aria-current]")).to_contain_text("first")
    await page.go_back()
    await expect(shown(page)).to_have_text(["second", "more"])
    await page.get_by_role("link", name="New").click()
    await expect(shown(page)).to_have_count(0)
    await expect(page).to_have_url(f"{server.url}/long/#chat")
    await page.locator("#home").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Ask your documents")
