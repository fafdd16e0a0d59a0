"""The built-in page in Chromium, against `tidelog serve`: what a newcomer does."""

from __future__ import annotations

import asyncio
import re

import pytest
from playwright.async_api import Browser, Page, Route, expect
from tests.browser.driving import LOCK, answer, ask, ended, run_of, when
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
