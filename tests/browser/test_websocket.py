"""The WebSocket in Chromium: what a page hears after it was frozen, from where it may open one, what it can do with its view."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from playwright.async_api import Page, expect
from tests.browser.story import long_text
from tests.conftest import SOAK

from tidelog.testing import Process

pytestmark = pytest.mark.anyio

FROZEN = 60.0 if SOAK else 1.5
"""Seconds for which the page is frozen."""
BACK = 2.0
"""Seconds after which it has all of it again."""
SILENT = 30_000
"""ms after which a page takes its connection for dead: two heartbeats."""
FOLLOW = """
([address, silent]) => {
  const heard = (window.heard = { text: "", seq: 0, opened: 0, gap: 0, ended: null });
  let tick = performance.now();
  setInterval(() => {
    heard.gap = Math.max(heard.gap, performance.now() - tick);
    tick = performance.now();
  }, 20);
  const open = () => {
    heard.opened++;
    let last = performance.now();
    const socket = new WebSocket(`${address}?after=${heard.seq}`);
    const watch = setInterval(() => performance.now() - last > silent && socket.close(), 1000);
    socket.onmessage = ({ data }) => {
      last = performance.now();
      const event = JSON.parse(data);
      if ((event.from ?? event.seq) !== heard.seq + 1) return;
      heard.seq = event.seq;
      if (event.type === "text.delta") heard.text += event.text;
      if (event.type === "run.ended") [heard.ended, heard.at] = [event.outcome, Date.now()];
      document.documentElement.dataset.heard = heard.ended ?? (heard.text.length > 100 ? "some" : "little");
    };
    socket.onclose = () => {
      clearInterval(watch);
      if (heard.ended === null) setTimeout(open, 200);
    };
  };
  open();
}
"""


async def begin(page: Page, server: Process, question: str) -> str:
    """Start the long answer in the background; where its WebSocket is."""
    await page.goto(f"{server.url}/long/")
    reply = await page.request.post(
        f"{server.url}/long/rag", data={"question": question}, headers={"Prefer": "respond-async"}
    )
    run = (await reply.json())["run"]
    return f"{server.url.replace('http', 'ws')}/long/runs/{run}/ws"


async def heard(page: Page) -> Any:
    return await page.evaluate("window.heard")


@pytest.mark.soak
async def test_a_page_that_was_frozen_has_all_of_it(page: Page, server: Process) -> None:
    address, wanted = await begin(page, server, "frozen"), "".join(long_text("frozen"))
    await page.evaluate(FOLLOW, [address, SILENT])
    await expect(page.locator("html")).to_have_attribute("data-heard", "some")
    devtools = await page.context.new_cdp_session(page)
    await devtools.send("Debugger.enable")
    await devtools.send("Debugger.pause")  # not one line of the page runs, not one message reaches it
    await asyncio.sleep(FROZEN)
    thawed = time.time()
    await devtools.send("Debugger.disable")
    await expect(page.locator("html")).to_have_attribute("data-heard", "completed")
    found = await heard(page)
    took = found["at"] / 1000 - thawed
    assert (found["text"], found["ended"]) == (wanted, "completed")
    assert found["gap"] > FROZEN * 900, "it was frozen indeed"
    assert took < BACK
    print(f"frozen for {FROZEN:g} s: all of it {took * 1000:.0f} ms after the thaw, {found['opened']} connections")


async def test_a_page_of_another_site_gets_none(page: Page, server: Process) -> None:
    address = await begin(page, server, "foreign")
    script = """
        (address) => new Promise((resolve) => {
          const socket = new WebSocket(address);
          socket.onopen = () => resolve("open");
          socket.onclose = ({ code }) => resolve(code);
        })
    """
    assert await page.evaluate(script, address) == "open"
    await page.goto("about:blank")
    assert await page.evaluate(script, address) == 1006


async def test_a_page_winds_its_view_back(page: Page, server: Process) -> None:
    """The tutorial dialect, as messages that a page hands on as an EventSource would."""
    address, wanted = await begin(page, server, "wind"), "".join(long_text("wind"))
    script = """
        (address) => new Promise((resolve) => {
          const socket = new WebSocket(`${address}?dialect=simple`);
          let text = "", replies = [], wound = false;
          socket.onmessage = ({ data }) => {
            const frame = JSON.parse(data);
            if (frame.type === "reply") {
              replies.push(frame.result);
              if (frame.to === "seek") text = "";
            } else if (frame.event === "done") {
              resolve({ text, replies, id: frame.id });
            } else if (frame.data !== undefined && frame.event === undefined) {
              text += JSON.parse(frame.data).data;
              if (!wound && text.length > 200) {
                wound = true;
                const verbs = [{ type: "hold" }, { type: "seek", seq: 1 }, { type: "go" }];
                for (const verb of verbs) socket.send(JSON.stringify(verb));
              }
            }
          };
        })
    """
    found = await page.evaluate(script, address)
    assert (found["text"], found["replies"]) == (wanted, ["held", "moved", "going"])
    assert found["id"].split(".")[1] == "1"
