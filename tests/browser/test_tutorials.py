"""The two pages that tutorials write, unchanged, in Chromium: EventSource, and a fetch reader with a Bearer header."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from tidelog.testing import Process

TOKEN = "s3cret"

pytestmark = pytest.mark.anyio


async def opened(page: Page, server: Process, name: str, **query: str) -> None:
    pairs = "&".join(f"{key}={value}" for key, value in query.items())
    await page.goto(f"{server.url}/tutorial/{name}.html?{pairs}")


async def text(page: Page, place: str) -> str:
    return await page.locator(f"#{place}").text_content() or ""


async def test_event_source(page: Page, server: Process) -> None:
    await opened(page, server, "eventsource", question="why")
    await expect(page.locator("#state")).to_have_text("done")
    assert await text(page, "output") == "The sea\nsays: why 潮汐 🌊 "
    assert await text(page, "docs") == "Tide tables"
    assert await text(page, "tools") == 'moon{"day":3}=full'
    assert await text(page, "error") == ""


async def test_event_source_is_told_of_a_failure(page: Page, server: Process) -> None:
    await opened(page, server, "eventsource", question="fail")
    await expect(page.locator("#state")).to_have_text("done")
    assert await text(page, "error") == "The model is busy."
    assert (await text(page, "output")).startswith("The sea")


async def test_event_source_of_bare_text(page: Page, server: Process) -> None:
    await opened(page, server, "text", question="why")
    await expect(page.locator("#state")).to_have_text("done")
    assert await text(page, "output") == "The sea\nsays: why 潮汐 🌊 "


async def test_event_source_comes_back_to_the_url_that_started_the_run(page: Page, server: Process) -> None:
    """As the browser does by itself, here with the query that stands for its header: it is one run, told once."""
    await page.goto(f"{server.url}/tutorial/text.html?question=none")
    found = await page.evaluate(
        """async () => {
          const seen = [], ids = [], url = "stream?dialect=sse-text&question=again";
          for (let turn = 0; turn < 2; turn++) {
            const source = new EventSource(turn ? `${url}&last_event_id=${ids.at(-1)}` : url);
            await new Promise((resolve) => {
              source.onmessage = (event) => {
                seen.push(event.data);
                ids.push(event.lastEventId);
                if (!turn && seen.length === 2) { source.close(); resolve(); }
              };
              source.addEventListener("done", () => { source.close(); resolve(); });
            });
          }
          return { text: seen.join(""), runs: new Set(ids.map((id) => id.split(".")[0])).size };
        }"""
    )
    assert found == {"text": "The sea\nsays: again 潮汐 🌊 ", "runs": 1}


async def test_fetch_reader_with_a_bearer_header(page: Page, server: Process) -> None:
    await opened(page, server, "fetch", question="why", token=TOKEN)
    await expect(page.locator("#state")).to_have_text("done")
    assert await text(page, "output") == "The sea\nsays: why 潮汐 🌊 "


async def test_fetch_reader_without_the_right_one(page: Page, server: Process) -> None:
    await opened(page, server, "fetch", question="why", token="wrong")
    await expect(page.locator("#state")).to_have_text("HTTP 401")


async def test_fetch_reader_is_told_of_a_failure(page: Page, server: Process) -> None:
    await opened(page, server, "fetch", question="fail", token=TOKEN)
    await expect(page.locator("#state")).to_have_text("The model is busy.")
