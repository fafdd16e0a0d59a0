"""Chromium for the tests of this folder: one a file, a fresh context a test.

Playwright's sync API leaves a running loop behind in its thread, which would break every later anyio test of the same
worker; hence the async one, and a browser that ends with its file.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect
from tests.browser.driving import PATIENCE, ROOT, stage

from tidelog.testing import Process

expect.set_options(timeout=PATIENCE)  # a limit, not a wait: machines that run tests are busy
FLAGS = (ROOT / "scripts" / "chromium.flags").read_text().split()
MISSING = "Chromium is missing. Debian: apt-get install chromium fonts-noto-cjk; elsewhere: CHROMIUM=/path/to/chromium"
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of Chromium. Without one the test is skipped, which CI counts as a failure."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if path is None and os.environ.get("CI") == "true":
        pytest.fail(MISSING)
    if path is None:
        pytest.skip(MISSING)
    return path


@pytest.fixture(scope="module")
async def browser(anyio_backend: str, chromium: str) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        await browser.close()


@pytest.fixture
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    """Cookies, storage and connections of its own; open a second page in it for a second tab."""
    context = await browser.new_context()
    yield context
    await context.close()


@pytest.fixture
async def page(context: BrowserContext) -> AsyncIterator[Page]:
    """A page that must not complain: no exception, and no violation of its policy."""
    page, complaints = await context.new_page(), list[str]()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text) if "Security Policy" in line.text else None)
    page.set_default_timeout(PATIENCE)
    yield page
    assert complaints == []


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """`tidelog serve` with the application of `stage.py`."""
    with stage(tmp_path_factory.mktemp("stage")) as server:
        yield server
