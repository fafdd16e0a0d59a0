"""The panel of documents in Chromium, against the built-in application: what people do with their own files."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.async_api import Page, Route, expect
from tests.browser.driving import answer, ask, ended, stage

from tidelog.testing import Process

pytestmark = pytest.mark.anyio

LIGHTHOUSE = "# Westerhever\n\nThe lighthouse of Westerhever is 41 metres high. It was built in 1907.\n"
DROP = """([name, text]) => {
  const carried = new DataTransfer();
  carried.items.add(new File([text], name));
  for (const type of ["dragenter", "dragover", "drop"])
    document.body.dispatchEvent(new DragEvent(type, { dataTransfer: carried, bubbles: true, cancelable: true }));
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One of its own: what these tests upload is not for the others."""
    with stage(tmp_path_factory.mktemp("documents")) as server:
        yield server


def file(name: str, content: bytes | str) -> dict[str, Any]:
    return {"name": name, "mimeType": "", "buffer": content.encode() if isinstance(content, str) else content}


async def test_upload_ask_delete(page: Page, server: Process) -> None:
    """A file that cannot be read is named, with the reason, and harms no other; what is deleted answers no more."""
    await page.goto(server.url)
    async with page.expect_file_chooser() as chooser:
        await page.get_by_role("button", name="Upload").click()
    await (await chooser.value).set_files(
        [file("tower.md", LIGHTHOUSE), file("broken.pdf", b"no pdf"), file("b.md", "# B")]
    )
    await expect(page.locator("#uploaded")).to_have_text("2 documents were read.")
    await expect(page.locator("#list .name")).to_have_text(["b.md", "tower.md"])
    await expect(page.locator("#skipped li")).to_have_text(["broken.pdf it is no PDF, or a broken one"])
    await page.get_by_role("button", name="中文").click()
    await expect(page.locator("#skipped li")).to_contain_text("文件已损坏")
    await page.get_by_role("button", name="English").click()
    await ask(page, "How high is the lighthouse?", pace="0")
    await ended(page)
    assert (await answer(page)).startswith("The lighthouse of Westerhever is 41 metres high.")
    await page.get_by_role("button", name="Delete b.md").press("Enter")
    await expect(page.get_by_role("button", name="Delete tower.md")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("#uploaded")).to_have_text("tower.md is deleted.")
    await expect(page.locator("#list li")).to_have_count(0)
    await expect(page.get_by_role("button", name="Upload")).to_be_focused()
    await expect(page.locator("#folder")).to_contain_text("5 documents")


async def test_dropped_anywhere_on_the_page(page: Page, server: Process) -> None:
    await page.set_viewport_size({"width": 360, "height": 640})
    await page.goto(server.url)
    await expect(page.locator("#documents")).to_be_hidden()
    await page.get_by_role("button", name="Conversations and documents").click()
    await expect(page.locator("#folder")).to_contain_text("5 documents")
    await page.evaluate(DROP, ["潮汐 1.md", "# 潮汐\n\n涨潮在中午。"])
    await expect(page.locator("#list .name")).to_have_text(["潮汐 1.md"])
    await expect(page.locator("#folder")).to_contain_text("5 documents of the folder")
    assert await page.evaluate("document.documentElement.scrollWidth") == 360
    await page.get_by_role("button", name="Delete 潮汐 1.md").click()
    await expect(page.locator("#list li")).to_have_count(0)


async def test_dropped_before_the_page_knows_its_documents(page: Page, server: Process) -> None:
    """They wait: on a slow line the list comes after the files."""
    go = asyncio.Event()

    async def held(route: Route) -> None:
        await go.wait()
        await route.continue_()

    await page.route("**/documents", held)
    await page.goto(server.url)
    await page.evaluate(DROP, ["early.md", "# Early"])
    go.set()
    await expect(page.locator("#list .name")).to_have_text(["early.md"])
    await page.get_by_role("button", name="Delete early.md").click()
    await expect(page.locator("#list li")).to_have_count(0)


async def test_progress_is_followed_over_a_reload(page: Page, server: Process) -> None:
    """The run of the upload tells it: file by file, also to the page that comes back."""
    go = asyncio.Event()

    async def held(route: Route) -> None:
        if go.is_set():
            await route.continue_()
            return
        frames = [
            {"seq": 1, "type": "run.started", "v": 1},
            {"seq": 2, "type": "progress", "task": "index", "done": 1, "total": 2, "note": "two.md"},
        ]
        body = "retry: 100\n" + "".join(f"data: {json.dumps(frame)}\n\n" for frame in frames)
        await route.fulfill(content_type="text/event-stream", body=body)

    await page.route("**/runs/*/events*", held)
    await page.goto(server.url)
    await page.locator("#files").set_input_files([file("one.md", "# One"), file("two.md", "# Two")])
    for _ in range(2):
        await expect(page.locator("#progress")).to_have_attribute("max", "2")
        assert await page.locator("#progress").evaluate("(node) => node.value") == 1
        await page.reload()
    go.set()
    await expect(page.locator("#uploaded")).to_have_text("2 documents were read.")
    await expect(page.locator("#progress")).to_be_hidden()
    for name in ("one.md", "two.md"):
        await page.get_by_role("button", name=f"Delete {name}").click()
    await expect(page.locator("#list li")).to_have_count(0)


async def test_what_is_too_large_is_not_even_sent(page: Page, server: Process) -> None:
    sent = list[str]()

    async def smaller(route: Route) -> None:
        sent.append(route.request.method)
        found = await (await route.fetch()).json()
        await route.fulfill(json={**found, "limits": {"file_bytes": 2048, "total_bytes": 3072, "files": 2}})

    await page.route("**/documents", smaller)
    await page.goto(server.url)
    await expect(page.locator("#limits")).to_contain_text("up to 2 KB a file, 3 KB and 2 files at once.")
    for files, told in (
        ([file("big.txt", "x" * 2049)], "big.txt is too large (2 KB). Allowed are up to 2 KB a file"),
        ([file("a.txt", "x" * 2000), file("b.txt", "x" * 2000)], "That is too much at once. Allowed are up to 2 KB"),
        ([file(f"{number}.md", "# x") for number in range(3)], "That is too much at once. Allowed are up to 2 KB"),
    ):
        await page.locator("#files").set_input_files(files)
        await expect(page.locator("#uploaded")).to_contain_text(told)
    assert sent == ["GET"]


async def test_a_server_that_refuses_an_upload(page: Page, server: Process) -> None:
    """21 files are over the real limit, which the page is not told here."""

    async def larger(route: Route) -> None:
        found = await (await route.fetch()).json()
        await route.fulfill(json={**found, "limits": {**found["limits"], "files": 99}})

    await page.route("**/documents", larger, times=1)
    await page.goto(server.url)
    await expect(page.locator("#limits")).to_contain_text("99 files")
    await page.locator("#files").set_input_files([file(f"{number}.md", "# x") for number in range(21)])
    await expect(page.locator("#uploaded")).to_contain_text("That is too much at once. Allowed are up to")
    await page.route("**/documents", lambda route: route.abort())
    await page.locator("#files").set_input_files(file("one.md", "# One"))
    await expect(page.locator("#uploaded")).to_contain_text("The server does not answer.")
