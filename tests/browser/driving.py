"""How the browser tests use the page: as a person does, by what is there to see and to press."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

from playwright.async_api import Page, expect

from tidelog.testing import Process, serve_process

ROOT = Path(__file__).parents[2]
LOCK = "How do I lock the bike?"
PATIENCE = 30_000
"""ms that the page gets for what it must do."""


def stage(folder: Path, *, port: int = 0) -> Process:
    """`tidelog serve` with the application of `stage.py`, its stores in this folder."""
    return serve_process("tests.browser.stage:app", cwd=ROOT, env={"STAGE": str(folder)}, port=port)


async def ask(page: Page, question: str, *, pace: str = "30") -> None:
    """Type a question and send it with Enter."""
    await page.locator("#pace").select_option(pace)
    await page.locator("#question").fill(question)
    await page.keyboard.press("Enter")


async def ended(page: Page, phase: str = "completed") -> None:
    """Until the page says that the run has ended like this."""
    await expect(page.locator(f'#turn[data-phase="{phase}"]')).to_be_visible(timeout=PATIENCE)


async def answer(page: Page) -> str:
    """The text of the answer so far."""
    return await page.locator("#answer").text_content() or ""


async def when(page: Page, condition: Callable[[str], bool]) -> str:
    """The answer's text, once it is so."""
    async with asyncio.timeout(PATIENCE / 1000):
        while not condition(text := await answer(page)):  # noqa: ASYNC110 (the page tells nobody)
            await asyncio.sleep(0.01)
    return text


async def started(page: Page, server: Process, question: str) -> int:
    """How many runs this question of `/long` has started."""
    reply = await page.request.get(f"{server.url}/long/started", params={"question": question})
    found: int = await reply.json()
    return found


def run_of(page: Page) -> str:
    """The run that the page's address names."""
    found = re.search(r"#run=([a-z2-7]{26})$", page.url)
    assert found is not None, page.url
    return found[1]
