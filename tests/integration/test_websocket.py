"""WebSockets against whatever comes: hostile frames, viewers that take nothing, servers that go."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.conftest import count
from tests.server.chat import Chat
from tests.server.sockets import talk
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tidelog.server.steering import FRAME_BYTES
from tidelog.testing import Gate, Process, Server, serve, serve_process, watch

ROOT = Path(__file__).parents[2]
PATIENCE = 10.0
KINDS = pytest.mark.parametrize("kind", ["tidelog", "uvicorn"])

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
verbs = st.fixed_dictionaries(
    {"type": st.sampled_from(["hold", "go", "seek", "pause ", "STOP", ""]) | values},
    optional={"seq": st.integers(-2, 4) | values, "ref": st.text(max_size=70) | values, "": values},
)
frames = st.one_of(
    st.binary(max_size=200), st.text(max_size=200), verbs.map(json.dumps), verbs.map(json.dumps),
    values.map(json.dumps), st.integers(1, 3).map(lambda n: "x" * (FRAME_BYTES * n // 2 + n)),
)  # fmt: skip
hostile = settings(
    max_examples=count(40, 2500), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Place:
    """A server with one run that does not end."""

    def __init__(self, server: Server, run: str) -> None:
        self.server = server
        self.run = run
        self.tasks = self.count()

    def count(self) -> int:
        return self.server.call(lambda: len(asyncio.all_tasks()))

    def at_rest(self) -> None:
        """As many tasks as at the beginning: whoever was here has left nothing."""
        limit = time.monotonic() + PATIENCE
        while (tasks := self.count()) != self.tasks:
            assert time.monotonic() < limit, f"{tasks} tasks, and {self.tasks} before"
            time.sleep(0.002)


@pytest.fixture(scope="module", params=[False, True], ids=["tidelog", "uvicorn"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with serve(Chat("one ", "two", Gate()).app, bare=request.param) as server, server.watch("/chat") as viewer:
        while not viewer.frames or "text" not in viewer.frames[-1].data:
            assert viewer.more()
        yield Place(server, viewer.run)


@pytest.mark.soak
@hostile
@given(st.lists(frames, min_size=1, max_size=8), st.sampled_from(["native", "simple"]))
def test_hostile_frames(place: Place, caplog: pytest.LogCaptureFixture, said: list[Any], dialect: str) -> None:
    """Each is answered, with a reply or an error, until one closes the connection; the others' view goes on."""
    caplog.set_level(logging.ERROR)
    with talk(place.server, place.run, dialect=dialect) as viewer:
        answers = 0
        try:
            for frame in said:
                viewer.say(frame)
                while viewer.read()[0].get("type") not in ("reply", "error"):
                    pass
                answers += 1
        except ConnectionClosed:
            large = next(
                n
                for n, frame in enumerate(said)
                if len(frame.encode() if isinstance(frame, str) else frame) > FRAME_BYTES
            )
            assert (viewer.connection.close_code, answers) == (1009, large)
        else:
            viewer.say({"type": "go", "ref": "last"})
            assert viewer.until(ref="last")["result"] == "going"
    place.at_rest()
    assert caplog.text == ""


@pytest.mark.soak
@hostile
@given(st.lists(st.binary(max_size=40), max_size=6), st.booleans())
def test_hostile_bytes(place: Place, caplog: pytest.LogCaptureFixture, pieces: list[bytes], shut: bool) -> None:
    """Whatever is no WebSocket at all."""
    caplog.set_level(logging.ERROR)
    with opened(place.server.url, place.run) as raw:
        try:
            for piece in pieces:
                raw.sendall(piece)
            if shut:
                raw.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it was closed already
    place.at_rest()
    assert caplog.text == ""


@pytest.mark.parametrize(
    "piece", [b"\x81\xfe", b"\x88\x80\0\0\0\0", b"\xff" * 64, b"\x81\x05hello", b"\x01\x80\0\0\0\0" * 9]
)
def test_known_bad_bytes(place: Place, caplog: pytest.LogCaptureFixture, piece: bytes) -> None:
    caplog.set_level(logging.ERROR)
    for _ in range(3):
        with opened(place.server.url, place.run) as raw:
            raw.sendall(piece)
    place.at_rest()
    assert caplog.text == ""


def opened(url: str, run: str, *, receive_buffer: int | None = None) -> socket.socket:
    """A WebSocket without a library: nothing is read, and no ping is answered."""
    target = urlsplit(url)
    raw = socket.socket()
    raw.settimeout(PATIENCE)
    if receive_buffer is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    raw.connect((target.hostname, target.port))
    key = base64.b64encode(os.urandom(16)).decode()
    raw.sendall(
        f"GET /runs/{run}/ws HTTP/1.1\r\nHost: {target.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += raw.recv(1)
    assert head.startswith(b"HTTP/1.1 101 ")
    return raw


def start(kind: Any, **env: str) -> Process:
    return serve_process("tests.integration.apps:app", kind=kind, cwd=ROOT, env={"APP_DRAIN_TIMEOUT": "0", **env})


@KINDS
def test_who_takes_nothing_is_closed(kind: Any) -> None:
    """Its delivery ends after `send_timeout`, so that `on_leave` and the memory know; ours cuts the connection as well."""
    with start(kind, APP_SEND_TIMEOUT="0.5") as process:
        run = watch(f"{process.url}/flood?kilobytes=20000", headers={"Prefer": "respond-async"}).json["run"]
        with opened(process.url, run, receive_buffer=4096) as raw:
            viewers_reach(process, 1)
            viewers_reach(process, 0)
            if kind == "tidelog":
                until(lambda: not holds(process, raw))


def viewers_reach(process: Process, wanted: int) -> None:
    def counted() -> bool:
        return f"\ntidelog_viewers {wanted}.0\n" in watch(f"{process.url}/metrics", accept=None).text

    until(counted)


def holds(process: Process, raw: socket.socket) -> bool:
    """Whether the process has the other end of this connection."""
    mine = raw.getsockname()[1]
    return any(one.raddr and one.raddr.port == mine for one in psutil.Process(process.pid).net_connections("tcp"))


def until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit, "it does not happen"
        time.sleep(0.02)


@KINDS
def test_a_server_that_goes_says_so(kind: Any) -> None:
    with start(kind) as process, watch(f"{process.url}/count") as first:
        first.read(1)
        with talk(process.url, first.run) as native, talk(process.url, first.run, dialect="simple") as simple:
            native.until(type="text.delta")
            simple.read(2)
            process.terminate()
            native.rest()
            # uvicorn closes every WebSocket with this code a moment later; who is faster depends on the machine.
            assert native.closed()[0] == simple.closed()[0] == 1012
        process.wait()


def test_what_is_compressed() -> None:
    """`tidelog serve` compresses nothing, whatever a client offers; uvicorn does unless it is told not to."""
    for kind, wanted in (("tidelog", 0), ("uvicorn", 1)):
        with start(kind) as process, watch(f"{process.url}/count?to=1") as first:
            url = f"{process.url}/runs/{first.run}/ws".replace("http", "ws")
            with connect(url, compression="deflate", proxy=None) as offered:
                assert len(offered.protocol.extensions) == wanted
