"""Takes the pictures of the built-in page: docs/images/page-en.png and page-zh.png.

Starts `tidelog serve` on a free port, asks one question in each language in Chromium, waits until the page no longer
changes, and takes the picture.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"
QUESTIONS = {
    "en": ("en-US", "What happens to the answer when I reload the page?"),
    "zh": ("zh-CN", "断线之后，答案会怎么样？"),
}
FLAGS = (
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
)
PATIENCE = 60.0
"""Seconds to wait for the server, and for each answer."""
STILL = 3.0
"""Seconds without a change after which an answer counts as whole."""


def main() -> int:
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        return 1  # scripts/chromium.sh, which runs before, has said how to install it
    IMAGES.mkdir(parents=True, exist_ok=True)
    with _server() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        for name, (locale, question) in QUESTIONS.items():
            _picture(browser, url, locale=locale, question=question, path=IMAGES / f"page-{name}.png")
        browser.close()
    return 0


def _picture(browser: Browser, url: str, *, locale: str, question: str, path: Path) -> None:
    context = browser.new_context(locale=locale, viewport={"width": 1100, "height": 800}, device_scale_factor=2)
    page = context.new_page()
    page.goto(url)
    before = _text(page)
    field = page.locator("textarea, input:not([type]), input[type=text], input[type=search]").first
    field.fill(question)
    field.press("Enter")
    _wait_until_still(page, before)
    page.screenshot(path=path, full_page=True)
    context.close()
    print(path.relative_to(ROOT))


def _wait_until_still(page: Page, before: str) -> None:
    """Until the text has changed, and then has not changed for `STILL` seconds."""
    end = time.monotonic() + PATIENCE
    text, since = before, time.monotonic()
    while text == before or time.monotonic() - since < STILL:
        if time.monotonic() > end:
            raise TimeoutError(f"no finished answer after {PATIENCE:g} s; the page says: {text[:500]}")
        page.wait_for_timeout(100)
        if (now := _text(page)) != text:
            text, since = now, time.monotonic()


def _text(page: Page) -> str:
    return page.locator("body").inner_text()


@contextmanager
def _server() -> Iterator[str]:
    port = _free_port()
    command = [str(Path(sys.executable).with_name("tidelog")), "serve", "--port", str(port), "--store", "memory:"]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        _wait_until_up(port, process)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_until_up(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"tidelog serve ended with {process.returncode}")
        try:
            probe = HTTPConnection("127.0.0.1", port, timeout=1)
            probe.request("GET", "/healthz")
            probe.getresponse()
            probe.close()
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(f"tidelog serve did not answer within {PATIENCE:g} s")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())
