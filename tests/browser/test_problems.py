"""What goes wrong is told in clear sentences that say what to do, in both languages."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect
from tests.browser.driving import ask, ended, last

from tidelog.testing import Process

pytestmark = pytest.mark.anyio

TOLD = [
    ("fail", "Failed: The tide is out.", "Wait 7 seconds, then press Retry.", "提供方繁忙：请等 7 秒，再按“重试”。"),
    ("key", "Failed: api.example.org refused the key: check OPENAI_API_KEY.", "start it again", "请检查启动服务器时用的密钥"),
    ("dead", "Failed: The model server cannot be reached: is it running?", "model's server runs", "请检查模型服务器是否在运行"),
]  # fmt: skip


@pytest.mark.parametrize(("question", "said", "english", "chinese"), TOLD, ids=[one[0] for one in TOLD])
async def test_a_model_that_fails(
    page: Page, server: Process, question: str, said: str, english: str, chinese: str
) -> None:
    await page.goto(f"{server.url}/long/")
    await ask(page, question)
    await ended(page, "failed")
    await expect(last(page, ".status")).to_have_text(said)
    await expect(last(page, ".trouble")).to_contain_text(english)
    await page.reload()
    await expect(last(page, ".status")).to_have_text(said)
    await page.get_by_role("button", name="中文").click()
    await expect(last(page, ".trouble")).to_contain_text(chinese)
    await expect(last(page, ".status")).to_have_text(said.replace("Failed: ", "失败："))


async def test_a_model_that_fails_in_mid_answer(page: Page, server: Process) -> None:
    """What there is can go on: that is the advice."""
    await page.goto(f"{server.url}/long/")
    await ask(page, "cut")
    await ended(page, "failed")
    await expect(last(page, ".trouble")).to_have_text("Press Continue to go on from here, or Retry to begin again.")
    await page.get_by_role("button", name="中文").click()
    await expect(last(page, ".trouble")).to_have_text("按“继续”从这里接着回答，或按“重试”重新开始。")


async def test_a_start_that_is_refused(page: Page, server: Process) -> None:
    """The question goes back into its field, and what was refused makes room for the next one."""
    refused = {"code": "too_large", "detail": "The body is over max_body_bytes (10).", "retryable": False}
    await page.route("**/long/chat", lambda route: route.fulfill(status=413, json=refused))
    await page.goto(f"{server.url}/long/#chat")
    await ask(page, "much")
    await ended(page, "refused")
    await expect(last(page, ".status")).to_have_text("Not possible: The body is over max_body_bytes (10).")
    await expect(last(page, ".trouble")).to_have_text("Make it shorter, or send it in pieces.")
    await expect(page.locator("#question")).to_have_value("much")
    await page.unroute("**/long/chat")
    await page.locator("#question").press("Enter")
    await ended(page)
    assert await page.locator(".turn").count() == 1


async def test_a_verb_that_is_refused(page: Page, server: Process) -> None:
    await page.goto(f"{server.url}/long/#chat")
    await ask(page, "verb")
    await ended(page)
    refused = {"code": "not_repeatable", "detail": "The request of this run cannot be repeated."}
    await page.route("**/retry", lambda route: route.fulfill(status=409, json=refused))
    await page.get_by_role("button", name="Retry").click()
    await expect(last(page, ".trouble")).to_have_text(
        "Not possible: The request of this run cannot be repeated. Ask the question again."
    )
    await page.route("**/retry", lambda route: route.abort())
    await page.get_by_role("button", name="Retry").click()
    await expect(last(page, ".trouble")).to_contain_text("The server does not answer.")


async def test_a_server_that_is_away_when_the_page_loads(page: Page, server: Process) -> None:
    await page.goto(f"{server.url}/long/#chat")
    await ask(page, "away")
    await ended(page)
    await page.route("**/threads/*", lambda route: route.abort())
    await page.reload()
    await expect(page.locator("#notice")).to_have_text("Connection lost; coming back")
    await page.unroute("**/threads/*")
    await page.evaluate("dispatchEvent(new Event('online'))")
    await expect(last(page, ".asked")).to_have_text("away")
    await expect(page.locator("#notice")).to_be_hidden()
