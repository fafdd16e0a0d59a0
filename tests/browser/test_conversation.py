"""A conversation in Chromium: the same on every tab and device, and after every reload."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import Browser, BrowserContext, Dialog, Page, expect
from tests.browser.driving import answer, ask, ended, last, run_of, shown, step, when
from tests.browser.scripted import HELD
from tests.browser.story import long_text

from tidelog.testing import Process

pytestmark = pytest.mark.anyio


@pytest.fixture
async def device(browser: Browser) -> BrowserContext:
    """Another browser: nothing is shared with the first but the server."""
    return await browser.new_context()


async def test_a_chat_goes_on(page: Page, server: Process) -> None:
    await page.goto(f"{server.url}/long/#chat")
    for question, said in (("red", "You said: red."), ("green", "You said: red, green.")):
        await ask(page, question)
        await ended(page)
        assert await answer(page) == said
    await expect(last(page, ".notes")).to_have_text("tide-1 · 12 tokens in, 3 out")
    await page.reload()
    await expect(shown(page)).to_have_text(["red", "green"])
    await expect(page.locator(".answer")).to_have_text(["You said: red.", "You said: red, green."])
    await ask(page, "blue")
    await ended(page)
    assert await answer(page) == "You said: red, green, blue."


async def test_another_device_shows_the_same_and_follows_live(
    page: Page, device: BrowserContext, server: Process
) -> None:
    await page.goto(f"{server.url}/long/")
    for question in ("hold one", "hold two"):
        await ask(page, question)
        await when(page, lambda text: text.count(" ") >= HELD)
        if question == "hold one":
            await page.get_by_role("button", name="Stop").click()
            await ended(page, "stopped")
    other = await device.new_page()
    await other.goto(page.url)
    await expect(shown(other)).to_have_text(["hold one", "hold two"])
    await expect(other.locator(".status").first).to_contain_text("Stopped")
    await expect(last(other)).to_have_attribute("data-phase", "answering")
    await step(page, server, "hold two")
    await asyncio.gather(ended(page), ended(other))
    assert await answer(other) == await answer(page) == "".join(long_text("hold two"))
    await device.close()


async def test_another_device_learns_of_a_new_question(page: Page, device: BrowserContext, server: Process) -> None:
    """It looks now and then, and follows; where both ask, the second is shown the first one's run."""
    await page.goto(f"{server.url}/long/#chat")
    await ask(page, "one")
    await ended(page)
    other = await device.new_page()
    await other.clock.install()
    await other.goto(page.url)
    await expect(shown(other)).to_have_text(["one"])
    await page.get_by_role("link", name="Agent", exact=True).click()
    await page.goto(page.url.replace("agent", "chat"))
    await page.locator("#recent a").first.click()
    await ask(page, "two")
    await ended(page)
    await other.clock.fast_forward(11_000)
    await expect(shown(other)).to_have_text(["one", "two"])
    await ended(other)
    assert await answer(other) == "You said: one, two."
    await device.close()


async def test_where_two_ask_at_once_the_second_follows_the_first(
    page: Page, device: BrowserContext, server: Process
) -> None:
    await page.goto(f"{server.url}/long/#agent")
    for _ in range(2):
        await step(page, server, "before")
    await ask(page, "before")
    await ended(page)
    other = await device.new_page()
    await other.goto(page.url)
    await ended(other)
    await ask(page, "busy")
    await expect(last(page, ".status")).to_have_text("Using calculator")
    await ask(other, "mine")
    await expect(shown(other)).to_have_text(["before", "busy"])
    await expect(other.locator("#notice")).to_contain_text("Another question of this conversation is being answered")
    await expect(other.locator("#question")).to_have_value("mine")
    for _ in range(2):
        await step(page, server, "busy")
    await asyncio.gather(ended(page), ended(other))
    assert await run_of(page) == await run_of(other)
    for _ in range(2):
        await step(page, server, "mine")
    await other.locator("#question").press("Enter")
    await expect(shown(other)).to_have_text(["before", "busy", "mine"])
    await ended(other)
    await expect(other.locator("#notice")).to_be_hidden()
    await device.close()


async def test_a_question_waits_for_the_one_before(page: Page, server: Process) -> None:
    await page.goto(f"{server.url}/long/#agent")
    await ask(page, "slow")
    await expect(last(page, ".status")).to_have_text("Using calculator")
    await ask(page, "next")
    await expect(page.locator("#notice")).to_contain_text("Wait until the answer is complete")
    await expect(page.locator("#question")).to_have_value("next")
    await expect(shown(page)).to_have_text(["slow"])
    await page.get_by_role("button", name="Stop").click()
    await ended(page, "stopped")
    await expect(last(page, ".tool")).to_have_attribute("data-state", "stopped")
    await expect(page.locator("#notice")).to_be_hidden()
    await expect(page.locator("#question")).to_be_focused()


async def test_a_run_is_paused_and_resumed_and_every_device_sees_it(
    page: Page, device: BrowserContext, server: Process
) -> None:
    await page.goto(f"{server.url}/long/#agent")
    await ask(page, "paused")
    await expect(last(page, ".status")).to_have_text("Using calculator")
    other = await device.new_page()
    await other.goto(page.url)
    await expect(last(other, ".status")).to_have_text("Using calculator")
    await page.get_by_role("button", name="Pause", exact=True).click()
    for one in (page, other):
        await expect(last(one, ".status")).to_have_text("Paused; it goes on when you resume it")
        await expect(one.get_by_role("button", name="Resume", exact=True)).to_be_enabled()
        await expect(one.get_by_role("button", name="Stop")).to_be_enabled()
    await page.locator("#language").click()
    await expect(last(page, ".status")).to_have_text("已暂停，恢复后会继续")
    await expect(page.get_by_role("button", name="恢复")).to_be_visible()
    await page.locator("#language").click()
    await other.reload()
    await expect(last(other, ".status")).to_have_text("Paused; it goes on when you resume it")
    await other.get_by_role("button", name="Resume", exact=True).click()
    for one in (page, other):
        await expect(last(one, ".status")).to_have_text("Using calculator")
        await expect(one.get_by_role("button", name="Pause", exact=True)).to_be_enabled()
    await page.get_by_role("button", name="Pause", exact=True).click()
    await expect(last(other, ".status")).to_have_text("Paused; it goes on when you resume it")
    await other.get_by_role("button", name="Stop").click()
    for one in (page, other):
        await ended(one, "stopped")
        await expect(one.locator("#pause")).to_be_hidden()
    await device.close()


async def test_a_reload_before_the_first_answer_keeps_the_conversation(page: Page, server: Process) -> None:
    await page.goto(f"{server.url}/long/#chat")
    await ask(page, "first")
    await ended(page)
    await page.route("**/long/chat", lambda route: route.abort("connectionreset"))
    await ask(page, "second")
    await expect(last(page, ".status")).to_have_text("Connection lost; coming back")
    await page.unroute("**/long/chat")
    await page.reload()
    await expect(shown(page)).to_have_text(["first", "second"])
    await ended(page)
    assert await answer(page) == "You said: first, second."


async def test_sources_of_earlier_answers_come_back(page: Page, server: Process) -> None:
    await page.goto(server.url)
    for question in ("What is the deposit?", "quantum gravity"):
        await ask(page, question, pace="0")
        await expect(last(page, ".asked")).to_have_text(question)
        await ended(page)
    await page.reload()
    earlier = page.locator(".turn").first
    await expect(earlier.locator(".sources summary")).to_be_visible()
    await expect(earlier.locator(".cards")).to_be_hidden()
    await earlier.get_by_role("button", name="Source 1").first.click()
    await expect(earlier.locator(".cards li").first).to_be_focused()
    await expect(earlier.get_by_role("button", name="Retry")).to_be_hidden()


@pytest.mark.parametrize(
    ("language", "name", "sure"),
    [("en", "Delete the conversation “hold me”", "cannot be brought back"), ("zh", "删除对话“hold me”", "无法恢复")],
)
async def test_a_conversation_is_deleted_on_the_page(
    page: Page, server: Process, language: str, name: str, sure: str
) -> None:
    """Once it is confirmed: with what is at work in it, and the one beside it stays."""
    await page.goto(f"{server.url}/long/")
    if language == "zh":
        await page.get_by_role("button", name="中文").click()
    await ask(page, "keep me")
    await ended(page)
    await page.locator("#new").click()
    await ask(page, "hold me")
    await when(page, lambda text: text.count(" ") >= HELD)
    run, thread = await run_of(page), page.url.rpartition("/")[2]
    asked = list[str]()

    async def answered(dialog: Dialog) -> None:
        asked.append(dialog.message)
        await (dialog.accept() if len(asked) > 1 else dialog.dismiss())

    page.on("dialog", answered)
    away = page.get_by_role("button", name=name)
    await away.click()
    await expect(page.locator("#recent a")).to_have_count(2)
    await away.click()
    await expect(page.locator("#recent .title")).to_have_text(["keep me"])
    await expect(shown(page)).to_have_count(0)
    assert all(sure in one for one in asked)
    for place in (f"threads/{thread}", f"runs/{run}"):
        assert (await page.request.get(f"{server.url}/long/{place}")).status == 404
    await page.locator("#recent a").click()
    await expect(shown(page)).to_have_text(["keep me"])


async def test_a_conversation_that_was_deleted(page: Page, server: Process) -> None:
    await page.goto(f"{server.url}/long/#chat")
    await ask(page, "forget me")
    await ended(page)
    thread = page.url.rpartition("/")[2]
    await page.request.delete(f"{server.url}/long/threads/{thread}")
    await page.reload()
    await expect(page.locator("#notice")).to_contain_text("There is no such conversation here")
    await expect(page.locator("#recent a")).to_have_count(0)
    await ask(page, "again")
    await ended(page)
    assert await answer(page) == "You said: again."
