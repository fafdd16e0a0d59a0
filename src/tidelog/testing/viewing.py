"""Viewers over a raw socket, which do what real ones do: read to the end, vanish in mid-frame, stop reading and stay.

Nothing is read ahead: what a viewer has not been asked for is still in the kernel or in the server.
"""

from __future__ import annotations

import json as jsons
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from types import TracebackType
from typing import Any, Final, NamedTuple, Self
from urllib.parse import urlencode, urlsplit

import h11

from tidelog.testing.frames import Frame, Parser
from tidelog.testing.script import PATIENCE

READ: Final = 64 * 1024


class Request(NamedTuple):
    """What a viewer asks for. `json` makes a body; without a method of its own the request is then a POST."""

    url: str
    method: str = "GET"
    json: Any = None
    headers: Mapping[str, str] = {}
    params: Mapping[str, str] = {}
    last_event_id: str | None = None
    accept: str | None = "text/event-stream"
    timeout: float = PATIENCE
    """Seconds that one read may take."""
    receive_buffer: int | None = None
    """SO_RCVBUF: how much the kernel takes for a viewer that does not read; None: as much as it likes."""


class Viewer:
    """An open connection, its status known. Iterate over it for frames; it is closed by `with`, `close`, and its end.

    `frames` are those that have arrived, `body` their bytes, `parser` what SSE said beside them.
    A body that breaks off makes iteration stop, too: `complete` tells the difference.
    """

    def __init__(self, request: Request) -> None:
        """Send the request and wait for the status. Raises `TimeoutError`, `ConnectionError`."""
        self.request = request
        self.frames: list[Frame] = []
        self.body = bytearray()
        self.parser = Parser()
        self.complete = False
        """Whether the body has ended as HTTP ends it."""
        self.status = 0
        self.headers: dict[str, str] = {}
        """Names in lower case; of repeated ones the last."""
        self.raw_headers: list[tuple[bytes, bytes]] = []
        self.closed = False
        self._http = h11.Connection(h11.CLIENT)
        self._lines = b""
        self._taken = 0
        self._socket = _connect(request)
        try:
            self._ask()
        except BaseException:
            self._socket.close()
            raise
        self._unread = self._read()

    def __iter__(self) -> Iterator[Frame]:
        return self._unread

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def run(self) -> str:
        """The `Run-Id` of the answer."""
        return self.headers["run-id"]

    @property
    def json(self) -> Any:
        """The whole body, read as JSON."""
        self.rest()
        return jsons.loads(bytes(self.body))

    @property
    def text(self) -> str:
        """The whole body as text."""
        self.rest()
        return self.body.decode()

    def read(self, count: int) -> list[Frame]:
        """The next frames, fewer if the body ends first. Raises `TimeoutError`."""
        return list(islice(self._unread, count))

    def until(self, type: str) -> list[Frame]:
        """The frames up to and with the first one whose JSON has this `type`. Raises `EOFError` if there is none."""
        found: list[Frame] = []
        for frame in self._unread:
            found.append(frame)
            if frame.json.get("type") == type:
                return found
        raise EOFError(f"the body ended without {type}: {found}")

    def rest(self) -> list[Frame]:
        """All frames up to the body's end. Raises `TimeoutError`."""
        return list(self._unread)

    def more(self) -> bool:
        """Read one chunk of the body, whether it completes a frame or not; False at its end. Raises `TimeoutError`."""
        event = None if self.closed else self._event()
        if not isinstance(event, h11.Data):
            self.complete = self.complete or isinstance(event, h11.EndOfMessage)
            self.close()
            return False
        self.body += event.data
        self.frames.extend(self._parse(bytes(event.data)))
        return True

    def drop(self) -> None:
        """Cut the connection as a failing network does: with a reset, in whatever place it is."""
        if not self.closed:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close()

    def close(self) -> None:
        """Close the connection as a browser does that goes elsewhere."""
        self.closed = True
        self._socket.close()

    def cut(self) -> bool:
        """Read what is left, until the server closes; tell whether the body broke off. Raises `TimeoutError`."""
        self.rest()
        return not self.complete

    def fileno(self) -> int:
        """The socket's, for `select` and its like."""
        return self._socket.fileno()

    def _ask(self) -> None:
        request = self.request
        target = urlsplit(request.url)
        query = "&".join(filter(None, (target.query, urlencode(request.params))))
        body = None if request.json is None else jsons.dumps(request.json).encode()
        method = "POST" if body is not None and request.method == "GET" else request.method
        headers = [("Host", target.netloc), *request.headers.items()]
        headers += [("Accept", request.accept)] if request.accept is not None else []
        headers += [("Last-Event-ID", request.last_event_id)] if request.last_event_id is not None else []
        headers += (
            [("Content-Type", "application/json"), ("Content-Length", str(len(body)))] if body is not None else []
        )
        head = h11.Request(method=method, target=(target.path or "/") + (f"?{query}" if query else ""), headers=headers)
        sent = [self._http.send(head), self._http.send(h11.Data(body or b"")), self._http.send(h11.EndOfMessage())]
        self._socket.sendall(b"".join(filter(None, sent)))
        response = self._event()
        if not isinstance(response, h11.Response):
            raise ConnectionError(f"the server answered nothing: {response}")
        self.status, self.raw_headers = response.status_code, list(response.headers)
        self.headers = {name.decode().lower(): value.decode("latin-1") for name, value in response.headers}

    def _event(self) -> Any:
        """The next thing that HTTP says; None if the connection breaks off."""
        while (event := self._http.next_event()) is h11.NEED_DATA:
            try:
                data = self._socket.recv(READ)
            except ConnectionError:
                return None
            try:
                self._http.receive_data(data)
                if not data:
                    return self._http.next_event()
            except h11.RemoteProtocolError:
                return None
        return event

    def _read(self) -> Iterator[Frame]:
        while True:
            while self._taken < len(self.frames):
                self._taken += 1
                yield self.frames[self._taken - 1]
            if not self.more():
                return

    def _parse(self, data: bytes) -> Iterator[Frame]:
        kind = self.headers.get("content-type", "")
        if kind.startswith("text/event-stream"):
            yield from self.parser.feed(data)
        elif kind.startswith("application/x-ndjson"):
            *lines, self._lines = (self._lines + data).split(b"\n")
            yield from (Frame(line.decode()) for line in lines if line)


def watch(url: str, method: str = "GET", **request: Any) -> Viewer:
    """Open a viewer: read on as you like. Keywords are the fields of `Request`."""
    return Viewer(Request(url, method, **request))


def collect(url: str, method: str = "GET", **request: Any) -> list[Frame]:
    """All frames up to the end. Raises `ConnectionError` if the body breaks off, or for a status but 200 and 204."""
    with watch(url, method, **request) as viewer:
        found = viewer.rest()
        if viewer.status not in (200, 204):
            raise ConnectionError(f"{viewer.status}: {viewer.body.decode('utf-8', 'replace')}")
        if not viewer.complete:
            raise ConnectionError(f"the body broke off after {len(found)} frames")
        return found


def drop(url: str, method: str = "GET", *, after: int, **request: Any) -> list[Frame]:
    """The first `after` frames; then the connection is cut."""
    with watch(url, method, **request) as viewer:
        found = viewer.read(after)
        viewer.drop()
        return found


def freeze(url: str, method: str = "GET", *, after: int = 0, **request: Any) -> Viewer:
    """A viewer that reads `after` frames and then takes nothing, yet stays. Read on from it to thaw it."""
    request.setdefault("receive_buffer", 4096)
    viewer = watch(url, method, **request)
    viewer.read(after)
    return viewer


def _connect(request: Request) -> socket.socket:
    target = urlsplit(request.url)
    until = time.monotonic() + request.timeout
    while True:
        made = socket.socket()
        made.settimeout(request.timeout)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if request.receive_buffer is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, request.receive_buffer)
        try:
            made.connect((target.hostname or "127.0.0.1", target.port or 80))
        except (ConnectionAbortedError, BlockingIOError):
            made.close()
            if time.monotonic() > until:
                raise
        except BaseException:
            made.close()
            raise
        else:
            return made
