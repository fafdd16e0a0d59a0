"""What the page shows of an agent at work: tool calls, reasoning, and why a model ended."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect
from tests.browser.driving import answer, ask, ended, last, step

from tidelog.testing import Process

pytestmark = pytest.mark.anyio


async def test_tool_calls_are_cards(page: Page, server: Process) -> None:
    """Each with its name, what it was given and what came of it, as it happens; a reload in the middle changes nothing."""
    await page.goto(f"{server.url}/long/#agent")
    await ask(page, "cards")
    calls = last(page, ".tool")
    await expect(calls).to_have_count(1)
    await expect(calls.first).to_have_attribute("data-state", "running")
    await expect(last(page, ".status")).to_have_text("Using calculator")
    await page.reload()
    await step(page, server, "cards")
    await expect(calls.first).to_have_attribute("data-state", "completed")
    await expect(calls.first.locator("summary")).to_have_text("calculator12 * 7 → 84done")
    await expect(calls.last).to_have_attribute("data-state", "running")
    await step(page, server, "cards")
    await ended(page)
    await expect(calls.last.locator(".state")).to_have_text("failed")
    await calls.last.locator("summary").press("Enter")
    await expect(calls.last.locator("dt")).to_have_text(["Input", "Error"])
    await expect(calls.last.locator("dd").first).to_contain_text('"table": "<b>tides</b>"')
    await expect(calls.last.locator("dd").last).to_have_text("There is no such table.")
    assert await answer(page) == "It is 84."


async def test_reasoning_is_folded(page: Page, server: Process) -> None:
    await page.goto(f"{server.url}/long/#agent")
    await ask(page, "fold")
    thought = last(page, ".thought")
    await expect(thought).to_have_count(1)
    await expect(thought).to_be_hidden()
    await last(page).get_by_text("Reasoning").click()
    await expect(thought).to_have_text("First the sum.\nThen the tides.")
    for _ in range(2):
        await step(page, server, "fold")
    await ended(page)
    await expect(thought).to_be_visible()


async def test_an_answer_that_was_cut_off_says_so(page: Page, server: Process) -> None:
    await page.goto(f"{server.url}/long/#chat")
    await ask(page, "long")
    await ended(page)
    await expect(last(page, ".notes")).to_contain_text("cut off at the model's length limit")


async def test_a_question_is_a_card(page: Page, server: Process) -> None:
    """Ask, reload, answer: the run was parked meanwhile, and goes on. Then a question that takes text, in another language."""
    await page.goto(f"{server.url}/long/#agent")
    await ask(page, "gate")
    card = last(page, ".question")
    await expect(card.first.locator(".prompt")).to_have_text("Send the <b>letter</b>?")
    await expect(last(page, ".status")).to_have_text("Waiting for your answer")
    await page.reload()
    await expect(card.first.locator("pre")).to_contain_text('"to": "<i>all</i>"')
    await expect(card.first.get_by_role("button")).to_have_text(["yes", "no"])
    await card.first.get_by_role("button", name="no").click()
    await expect(card.first.locator(".decided")).to_have_text("Answered: no")
    await expect(card.last.locator(".prompt")).to_have_text("Your name?")
    field = card.last.get_by_role("textbox", name="Your name?")
    await field.press("Enter")
    await expect(card.last.get_by_role("alert")).to_have_text("The answer must be text.")
    await field.fill("Ann")
    await page.get_by_text("中文", exact=True).click()
    await expect(card.first.locator(".decided")).to_have_text("已回答：no")
    await expect(field).to_have_value("Ann")
    await card.last.get_by_role("button", name="回答").click()
    await ended(page)
    assert await answer(page) == "You said no. Signed Ann."
    await page.reload()
    await ended(page)
    await expect(card.locator(".decided")).to_have_text(["已回答：no", "已回答：Ann"])


async def test_the_built_in_agent_asks_before_it_acts(page: Page, server: Process) -> None:
    """A question in the page with no model and nothing to set up; a reload before the answer changes nothing."""
    await page.goto(f"{server.url}/#agent")
    await ask(page, "Send a mail to Ann: the tide is in.")
    card = last(page, ".question")
    await expect(card.locator(".prompt")).to_have_text("Send this mail to Ann?")
    await expect(last(page, ".status")).to_have_text("Waiting for your answer")
    await page.reload()
    await expect(card.locator("pre")).to_contain_text('"text": "the tide is in."')
    await expect(last(page, ".tool")).to_have_attribute("data-state", "running")
    await card.get_by_role("button", name="do not send").click()
    await ended(page)
    await expect(card.locator(".decided")).to_have_text("Answered: do not send")
    await expect(last(page, ".tool")).to_have_attribute("data-state", "stopped")
    assert await answer(page) == "You did not agree: the mail to Ann was not sent."
