"""Follows a run over SSE: a cursor on this side, which comes back with `Last-Event-ID` wherever it was cut.

A body that ends without `run.ended` is no ending: the connection dropped or the server went, and the log lives on.
"""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

import httpx2

from tidelog.cli.remote import reached, refusal
from tidelog.cli.trouble import Trouble

BACKOFF: Final = (0.25, 8.0)
"""Seconds before the first attempt to come back, and at most; they double and are jittered."""
MAX_LINE: Final = 64 * 1024 * 1024
"""Bytes of one line: what a whole run may hold."""

Say = Callable[[str], None]


class Frame(NamedTuple):
    """One SSE frame: the cursor behind it, the JSON text, and what that says."""

    id: str
    text: str
    event: dict[str, Any]


def frames(client: httpx2.Client, address: str, *, patience: float, say: Say) -> Iterator[Frame]:
    """Every frame of the run once, to its end. `say` hears of lost connections.

    Raises `Trouble` for a run that is not there, and after `patience` seconds without an answer.
    """
    watch = _Watch(address)
    with reached(address), contextlib.suppress(_Later):
        yield from watch.look(client)
    while not watch.ended:
        lost_at = time.monotonic()
        say("The connection is lost; trying to come back ...")
        for delay in watch.delays():
            if time.monotonic() + delay > lost_at + patience:
                raise Trouble(f"{address}: nobody has answered for {patience:g} s. The run may live on; try again.")
            time.sleep(delay)
            with contextlib.suppress(httpx2.TransportError, _Later):
                yield from watch.look(client)
            if watch.heard:
                break


class _Later(Exception):
    """The server asks to come back later."""


class _Watch:
    """One run's cursor over many connections."""

    def __init__(self, address: str) -> None:
        self.ended = False
        self.heard = False
        """Whether the last connection brought a frame."""
        self._address = address
        self._position = ""
        self._retry: float | None = None

    def look(self, client: httpx2.Client) -> Iterator[Frame]:
        """The frames of one connection. Raises `TransportError`, `_Later`, `Trouble`."""
        self.heard = False
        headers = {"Accept": "text/event-stream"}
        if self._position:
            headers["Last-Event-ID"] = self._position
        with client.stream("GET", f"{self._address}/events", headers=headers) as response:
            if response.status_code == 204:
                self.ended = self.heard = True
                return
            if response.status_code != 200:
                response.read()
                if response.status_code in (429, 500, 502, 503, 504):
                    raise _Later
                raise refusal(response)
            yield from self._take(response)

    def delays(self) -> Iterator[float]:
        """Seconds to wait before each attempt, the server's own wish first."""
        first, most = BACKOFF
        if self._retry is not None:
            yield self._retry
        while True:
            yield first * random.uniform(0.5, 1.5)
            first = min(first * 2, most)

    def _take(self, response: httpx2.Response) -> Iterator[Frame]:
        try:
            for identity, text in _blocks(response.iter_bytes()):
                event = json.loads(text)
                if event.get("type") in ("reconnect", "reauth"):  # what has expired is refused when we come back
                    self._retry = event["retry"] / 1000
                    continue
                self.heard, self._retry = True, None
                self._position = identity or self._position
                self.ended = event.get("type") == "run.ended"
                yield Frame(self._position, text, event)
        except httpx2.TransportError:
            if not self.heard:
                raise


def _blocks(chunks: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    """Id and data of every block that has data. Lines end with LF alone: other separators are text."""
    identity, data = "", list[str]()
    for line in _lines(chunks):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield identity, "\n".join(data)
            data = []
        elif name == "id":
            identity = value
        elif name == "data":
            data.append(value)


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    rest = bytearray()
    for chunk in chunks:
        rest += chunk
        if b"\n" not in chunk:
            if len(rest) > MAX_LINE:
                raise Trouble("A line of the stream is too long.")
            continue
        *lines, last = bytes(rest).split(b"\n")
        rest = bytearray(last)
        for line in lines:
            yield line.removesuffix(b"\r").decode("utf-8", "replace")
