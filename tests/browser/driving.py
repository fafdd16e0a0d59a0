"""How the browser tests use the page: as a person does, by what is there to see and to press."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from playwright.async_api import Locator, Page, expect

from tidelog.testing import Process, serve_process

ROOT = Path(__file__).parents[2]
LOCK = "How do I lock the bike?"
PATIENCE = 30_000
"""ms that the page gets for what it must do."""


def stage(folder: Path, *, port: int = 0) -> Process:
    """`tidelog serve` with the application of `stage.py`, its stores in this folder."""
    return serve_process("tests.browser.stage:app", cwd=ROOT, env={"STAGE": str(folder)}, port=port)


async def ask(page: Page, question: str, *, pace: str | None = None) -> None:
    """Type a question and send it with Enter; the built-in answerer says `pace` words a second."""
    if pace is not None:
        await page.locator("#pace").select_option(pace)
    await page.locator("#question").fill(question)
    await page.keyboard.press("Enter")


def last(page: Page, place: str = "") -> Locator:
    """The last question of the conversation, or a place in it."""
    return page.locator(f".turn:last-child {place}")


def shown(page: Page) -> Locator:
    """The questions of the conversation."""
    return page.locator(".turn .asked")


async def ended(page: Page, phase: str = "completed") -> None:
    """Until the page says that the last run has ended like this."""
    await expect(page.locator(f'.turn:last-child[data-phase="{phase}"]')).to_be_visible(timeout=PATIENCE)


async def answer(page: Page) -> str:
    """The text of the last answer so far."""
    return "".join(await last(page, ".answer").all_text_contents())


async def when(page: Page, condition: Callable[[str], bool]) -> str:
    """The last answer's text, once it is so."""
    async with asyncio.timeout(PATIENCE / 1000):
        while not condition(text := await answer(page)):  # noqa: ASYNC110 (the page tells nobody)
            await asyncio.sleep(0.01)
    return text


async def started(page: Page, server: Process, question: str) -> int:
    """How many runs this question of `/long` has started."""
    reply = await page.request.get(f"{server.url}/long/started", params={"question": question})
    found: int = await reply.json()
    return found


async def step(page: Page, server: Process, question: str) -> None:
    """Let the agent of `/long` go one step further with this question."""
    await page.request.post(f"{server.url}/long/go", params={"question": question})


async def run_of(page: Page) -> str:
    """The run that the last question of the conversation shows."""
    found = await last(page).get_attribute("data-run")
    assert found is not None
    return found
