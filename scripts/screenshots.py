"""Takes the pictures of the built-in page in docs/images.

Starts `tidelog serve` on a free port, asks in Chromium as `PICTURES` says, and takes each picture when the answer is complete.
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
from typing import Literal, NamedTuple

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"
FLAGS = (ROOT / "scripts" / "chromium.flags").read_text().split()
PATIENCE = 60.0
"""Seconds to wait for the server, and for each answer."""
LEAST = 640
"""CSS pixels that a picture is high, or more."""


class Picture(NamedTuple):
    """One picture: these questions, one after the other, in this application; at most so many CSS pixels high."""

    name: str
    locale: str
    mode: str
    questions: tuple[str, ...]
    width: int = 1100
    most: int = 1100
    scheme: Literal["light", "dark"] = "light"


PICTURES = (
    Picture("page-en", "en-US", "rag", ("What happens to the answer when I reload the page?",)),
    Picture("page-zh", "zh-CN", "rag", ("断线之后，答案会怎么样？",)),
    Picture("agent-en", "en-US", "agent", ("What is 12 * (7 + 5), and what time is it in Tokyo?", "Average revenue by region")),
    Picture("agent-zh", "zh-CN", "agent", ("12 * (7 + 5) 等于多少？", "东京现在几点？"), scheme="dark"),
    Picture("phone-en", "en-US", "chat", ("What is a cursor?",), width=390, most=844, scheme="dark"),
)  # fmt: skip


def main() -> int:
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        return 1  # scripts/chromium.sh, which runs before, has said how to install it
    IMAGES.mkdir(parents=True, exist_ok=True)
    with _server() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        for picture in PICTURES:
            _take(browser, url, picture)
        browser.close()
    return 0


def _take(browser: Browser, url: str, picture: Picture) -> None:
    context = browser.new_context(
        locale=picture.locale, color_scheme=picture.scheme, reduced_motion="reduce",
        viewport={"width": picture.width, "height": LEAST}, device_scale_factor=2,
    )  # fmt: skip
    page = context.new_page()
    page.set_default_timeout(PATIENCE * 1000)
    page.goto(f"{url}#{picture.mode}")
    page.locator("#pace").select_option("0")
    for question in picture.questions:
        page.locator("#question").fill(question)
        page.locator("#question").press("Enter")
        page.locator('.turn:last-child[data-phase="completed"]').wait_for()
    _fit(page, picture)
    path = IMAGES / f"{picture.name}.png"
    page.screenshot(path=path)
    context.close()
    print(path.relative_to(ROOT))


def _fit(page: Page, picture: Picture) -> None:
    """Make the window as high as the page, within bounds, and show the conversation from its beginning."""
    height = page.evaluate("document.documentElement.scrollHeight")
    page.set_viewport_size({"width": picture.width, "height": max(LEAST, min(picture.most, height))})
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    page.wait_for_timeout(300)


@contextmanager
def _server() -> Iterator[str]:
    port = _free_port()
    command = [str(Path(sys.executable).with_name("tidelog")), "serve", "--port", str(port), "--store", "memory:"]
    process = subprocess.Popen(command, cwd=ROOT, env=_environment())
    try:
        _wait_until_up(port, process)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(timeout=30)


def _environment() -> dict[str, str]:
    """This process's, without a model: the pictures show what a newcomer sees."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "ANTHROPIC_", "TIDELOG_"))
    }


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
