"""The page's parts that compute, alone in Chromium: the parser of event streams, the reducer, and what paints an answer."""

from __future__ import annotations

import json

import pytest
from playwright.async_api import Page
from tests.browser.driving import ask, ended, run_of, step

from tidelog.testing import Process
from tidelog.testing.frames import Parser

pytestmark = pytest.mark.anyio

STREAM = (
    "id: r.1.1\nretry: 1200\ndata: {}\n\n: hb\n\ndata:no space\ndata:  two\n\nevent: done\nid\ndata\n\n"
    "id: only\n\nid: a\0b\r\ndata: cr\rlf\r\r\ndata: 潮汐 🌊 \u2028 x\r\n\r\nfoo: bar\ndata: last\n\ndata: cut"
)


@pytest.fixture
async def page(page: Page, server: Process) -> Page:
    await page.goto(server.url)
    return page


async def test_an_event_stream_cut_anywhere_gives_the_same(page: Page) -> None:
    """Every cut into two chunks, and byte by byte, against the parser of the testing kit."""
    data = STREAM.encode()
    cuts = await page.evaluate(
        """async (bytes) => {
          const { EventStream } = await import("./page/sse.js");
          const all = Uint8Array.from(bytes);
          const parse = (chunks) => {
            const stream = new EventStream();
            return JSON.stringify(chunks.flatMap((chunk) => stream.feed(chunk)));
          };
          const found = new Set([parse([all]), parse(Array.from(all, (byte) => Uint8Array.of(byte)))]);
          for (let at = 0; at <= all.length; at++) found.add(parse([all.slice(0, at), all.slice(at)]));
          return [...found];
        }""",
        list(data),
    )
    assert len(cuts) == 1
    blocks = json.loads(cuts[0])
    expected = list(Parser().feed(data))
    assert [(one["data"], one["event"] or "message") for one in blocks if one["data"] is not None] == [
        (frame.data, frame.event) for frame in expected
    ]
    assert [one["id"] for one in blocks] == ["r.1.1", None, "", "only", None, None, None]
    assert blocks[0]["retry"] == 1200


async def test_a_frame_taken_twice_changes_nothing(page: Page) -> None:
    found = await page.evaluate(
        """async () => {
          const { emptyRun, take } = await import("./page/run.js");
          const frames = [
            { seq: 1, type: "run.started", thread: "t" },
            { seq: 2, type: "sources", sources: [{ id: "s1", title: "T" }] },
            { seq: 5, from: 3, type: "text.delta", text: "abc" },
            { seq: 6, type: "of.a.later.version" },
            { seq: 7, type: "run.ended", outcome: "stopped", can: ["retry"] },
          ];
          const once = emptyRun("r"), twice = emptyRun("r"), told = [];
          for (const frame of frames) told.push(take(once, frame));
          for (const frame of frames.flatMap((one, at) => [...frames.slice(0, at), one, one])) take(twice, frame);
          const holed = emptyRun("r");
          const gaps = [frames[1], { seq: 1, from: 0, type: "text.delta", text: "x" }].map((one) => take(holed, one));
          return { told, same: JSON.stringify(once) === JSON.stringify(twice), once, gaps, holed: holed.text };
        }"""
    )
    assert found["told"] == ["taken"] * 5
    assert found["same"] is True
    assert found["once"]["text"] == "abc"
    assert found["once"]["position"] == 7
    assert found["gaps"] == ["gap", "gap"]
    assert found["holed"] == ""


async def test_the_place_in_the_queue_is_told_until_the_run_begins(page: Page) -> None:
    found = await page.evaluate(
        """async () => {
          const { emptyRun, take } = await import("./page/run.js");
          const run = emptyRun("r"), told = [run.queued];
          const states = [{ state: "queued", position: 2 }, { state: "queued", position: 1 }, { state: "running" }];
          states.forEach((one, at) => {
            take(run, { seq: at + 1, type: "run.state", ...one });
            told.push(run.queued);
          });
          return told;
        }"""
    )
    assert found == [None, 2, 1, None]


async def test_a_transcript_tells_what_the_frames_told(page: Page, server: Process) -> None:
    """What an ended run shows from its transcript is what it showed live."""
    await page.goto(f"{server.url}/long/#agent")
    for _ in range(2):
        await step(page, server, "both")
    await ask(page, "both")
    await ended(page)
    found = await page.evaluate(
        """async (run) => {
          const { emptyRun, fromTranscript, take } = await import("./page/run.js");
          const lines = await fetch(`runs/${run}/events`, { headers: { Accept: "application/x-ndjson" } });
          const live = emptyRun(run);
          for (const line of (await lines.text()).trim().split("\\n")) take(live, JSON.parse(line));
          const told = fromTranscript(await (await fetch(`runs/${run}/transcript`)).json());
          const calls = (state) => state.parts.map(({ kind, id, name, text, input, outcome, output, error }) =>
            JSON.stringify([kind, id, name, text, input, outcome, output ?? null, error ?? null]));
          const same = ["text", "outcome", "position", "thread"].every((name) => live[name] === told[name]);
          return { same, live: calls(live), told: calls(told), asked: [live.data.question, told.data.question] };
        }""",
        await run_of(page),
    )
    assert found["same"] is True
    assert found["live"] == found["told"]
    assert [json.loads(one)[0] for one in found["live"]] == ["reasoning", "tool", "tool", "text"]
    assert found["asked"] == ["both", "both"]


ANSWER = """The **deposit** is `40 €`. [1] See [the site](https://example.org/a) and [2](x) [9]

3. Scan the <b>code</b>. [2]
4. Pull
   the pin.
- A flat tyre

```sh
docks lock --all   # not [1]
```

[2]

| a | b \\| c |
|---|---|
| `x` | **y** |"""


async def test_an_answer_is_painted_the_same_however_it_came(page: Page) -> None:
    """Painted at every prefix, it ends as if painted at once; and only text, never its markup, comes from the answer."""
    found = await page.evaluate(
        """async (text) => {
          const { paint } = await import("./page/markdown.js");
          const cite = (number) => (number > 2 ? null : Object.assign(document.createElement("sup"), { textContent: number }));
          const grown = document.createElement("div"), whole = document.createElement("div");
          for (let at = 1; at <= text.length; at++) paint(grown, text.slice(0, at), cite);
          paint(whole, text, cite);
          const first = whole.firstElementChild;
          paint(whole, text + "\\n\\nmore", cite);
          const kept = whole.firstElementChild === first;
          paint(whole, text, cite);
          return { same: grown.isEqualNode(whole), html: whole.innerHTML, kept };
        }""",
        ANSWER,
    )
    assert found["same"] is True
    assert found["kept"] is True
    link = '<a href="https://example.org/a" rel="noopener noreferrer" target="_blank">the site</a>'
    assert found["html"] == (
        f"<p>The <strong>deposit</strong> is <code>40 €</code>.\u202f<sup>1</sup> See {link} and [2](x) [9]</p>"
        '<ol><li value="3">Scan the &lt;b&gt;code&lt;/b&gt;.\u202f<sup>2</sup></li><li value="4">Pull\nthe pin.</li></ol>'
        "<ul><li>A flat tyre</li></ul>"
        "<pre><code>docks lock --all   # not [1]</code></pre>"
        '<p class="lone"><sup>2</sup></p>'
        '<div class="table"><table><thead><tr><th>a</th><th>b | c</th></tr></thead>'
        "<tbody><tr><td><code>x</code></td><td><strong>y</strong></td></tr></tbody></table></div>"
    )
