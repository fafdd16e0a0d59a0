"""The bytes of a stream, exactly (spec §5)."""

from __future__ import annotations

import json
import re
import time

import pytest
from tests.server.chat import NDJSON, Chat, make_tide, types

from tidelog import Progress
from tidelog.testing import Gate, Viewer, serve

SMALL_BEAT = 0.02


def blocks(viewer: Viewer) -> list[bytes]:
    viewer.rest()
    assert bytes(viewer.body).endswith(b"\n\n")
    return bytes(viewer.body).split(b"\n\n")[:-1]


def beats(viewer: Viewer, count: int) -> None:
    """Read until that many heartbeats have come."""
    while len(viewer.parser.comments) < count:
        assert viewer.more()


@pytest.mark.parametrize("bare", [False, True], ids=["tidelog", "uvicorn"])
def test_the_blocks_of_the_native_dialect(bare: bool) -> None:
    with serve(Chat("Hi", {"n": 1}).app, bare=bare) as server, server.watch("/chat") as viewer:
        first, *rest = blocks(viewer)
    assert re.fullmatch(rb"id: %b\.1\.1\nretry: \d{4}\ndata: {.*}" % viewer.run.encode(), first)
    for number, block in enumerate(rest, 2):
        assert re.fullmatch(rb"id: %b\.1\.%d\ndata: {.*}" % (viewer.run.encode(), number), block)
    assert b"\r" not in viewer.body
    assert len(rest) == 4


def test_characters_are_utf_8_and_no_escapes() -> None:
    with serve(Chat("你好 é 🙂").app) as server, server.watch("/chat") as viewer:
        assert "你好 é 🙂".encode() in b"\n".join(blocks(viewer))


@pytest.mark.parametrize("dialect", ["native", "simple", "sse-text"])
def test_retry_stands_in_the_first_frame_with_data_and_nowhere_else(dialect: str) -> None:
    found: set[int] = set()
    chat = Chat("Hi", {"n": 1}, dialect=dialect)
    with serve(chat.app) as server:
        for _ in range(20):
            viewer = server.watch("/chat")
            with_retry = [block for block in blocks(viewer) if b"retry:" in block]
            assert len(with_retry) == 1
            assert b"\ndata: " in with_retry[0]
            assert viewer.parser.retry is not None
            found.add(viewer.parser.retry)
    assert all(1000 <= retry <= 3000 for retry in found)
    assert len(found) > 5, "viewers must not come back together"


def test_the_heart_beats_before_the_first_token_and_between() -> None:
    before, between = Gate(), Gate()
    chat = Chat(before, "Hel", between, "lo", tide=make_tide(heartbeat=SMALL_BEAT), status_hold=0.0)
    with serve(chat.app) as server, server.watch("/chat") as viewer:
        beats(viewer, 3)
        assert types(viewer.frames) == ["run.started"]
        before.open()
        while len(viewer.frames) < 2:
            assert viewer.more()
        so_far = len(viewer.parser.comments)
        beats(viewer, so_far + 2)
        between.open()
        viewer.rest()
        stored = server.client.get(f"/runs/{viewer.run}").json()["last_seq"]
    assert set(viewer.parser.comments) == {"hb"}
    assert b": hb\n\n" in viewer.body
    assert stored == 5, "a heartbeat is no record"
    assert viewer.parser.last_id == f"{viewer.run}.1.5"


def test_lines_beat_with_an_empty_line_and_text_does_not_beat() -> None:
    gate = Gate()
    chat = Chat("Hel", gate, "lo", tide=make_tide(heartbeat=SMALL_BEAT))
    with serve(chat.app) as server:
        lines, text = server.watch("/chat", accept=NDJSON), server.watch("/chat", accept="text/plain")
        while b"\n\n\n" not in lines.body:
            assert lines.more()
        gate.open()
        lines.rest()
        assert text.text == "Hello"
    assert [json.loads(line)["type"] for line in lines.body.split(b"\n") if line] == types(lines.frames)


def test_an_answer_in_simple_begins_with_a_block_that_carries_the_id_alone() -> None:
    with serve(Chat("Hi", dialect="simple").app) as server, server.watch("/chat") as viewer:
        first, *rest = blocks(viewer)
    assert first == f"id: {viewer.run}.1.1".encode()
    assert all(b"data: " in block for block in rest)


def test_data_is_split_at_cr_lf_and_crlf_alone() -> None:
    hostile = "a\rb\nc\r\nd\u2028e\u0085f\x00g\x0bh"
    with serve(Chat(hostile, dialect="sse-text").app) as server, server.watch("/chat") as viewer:
        blocks(viewer)
    assert [frame.data for frame in viewer.frames if frame.event == "message"] == ["a\nb\nc\nd\u2028e\u0085f\x00g\x0bh"]
    assert b"\r" not in viewer.body


def test_names_that_would_break_a_frame_become_data() -> None:
    from tidelog import Data

    names = ["a\nb", "a\rdata: x", "x\0y", "done", "error", "", "fine name"]
    chat = Chat(*(Data(name=name, data=number) for number, name in enumerate(names)), dialect="simple")
    with serve(chat.app) as server, server.watch("/chat") as viewer:
        frames = viewer.rest()
    assert [(frame.event, frame.json) for frame in frames[:-1]] == [
        *(("data", number) for number in range(6)),
        ("fine name", 6),
    ]


@pytest.mark.parametrize("dialect", ["simple", "sse-text", "text"])
def test_a_record_without_words_does_not_end_the_body(dialect: str) -> None:
    """A dialect has no frame for some records: no empty chunk may be written, not on the short way either."""
    first, second = Gate(), Gate()
    chat = Chat("one ", first, Progress(task="t", done=1), second, "two")
    with serve(chat.app) as server, server.watch(f"/chat?dialect={dialect}&merge=0") as viewer:
        while b"one" not in viewer.body:
            assert viewer.more()
        first.open()
        while second.arrived == 0:
            time.sleep(0.001)  # the progress is accepted, and served in the same turn
        second.open()
        viewer.rest()
        assert b"two" in viewer.body
        assert viewer.complete
