"""Real workers of Celery and taskiq stream to a page; they are killed in mid-run, and the page is told the truth."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Page, expect
from tests.integration.workers import queue, redis, works
from tests.redis_server import RedisServer

assert queue and redis  # fixtures
pytestmark = pytest.mark.anyio


async def test_a_page_sees_what_workers_do(page: Page, queue: str, redis: RedisServer, tmp_path: Path) -> None:
    """Of two runs, one says what it does, and ends; the other has said nothing yet, and is begun again."""
    with works(queue, redis, tmp_path) as found:
        await page.goto(found.url)
        await expect(page.locator("#told .state")).to_have_text("queued ")
        worker = found.worker()
        await expect(page.locator("#told .text")).to_contain_text("0 1 2 3 4 5 ")
        await expect(page.locator("#silent .state")).to_have_text("queued running ")
        worker.kill()
        await expect(page.locator("#told .end")).to_have_text("interrupted")
        await expect(page.locator("#silent .state")).to_have_text("queued running queued ")
        found.worker()
        found.open_gate("slow")
        await expect(page.locator("#silent .end")).to_have_text("completed")
        await expect(page.locator("#silent .text")).to_have_text("done")
        await expect(page.locator("#silent .state")).to_have_text("queued running queued running ")
