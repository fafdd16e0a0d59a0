"""A viewer over a WebSocket, by a real client library."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

from tests.parts import PATIENCE
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tidelog.testing import Server


class Talk:
    """What one viewer said and heard."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.heard: list[dict[str, Any]] = []

    def say(self, *frames: Any) -> None:
        """Send frames: text and bytes as they are, anything else as JSON."""
        for frame in frames:
            self.connection.send(frame if isinstance(frame, str | bytes) else json.dumps(frame))

    def read(self, count: int = 1) -> list[dict[str, Any]]:
        """The next messages. Raises `TimeoutError`, and `ConnectionClosed`."""
        found = [json.loads(self.connection.recv(PATIENCE)) for _ in range(count)]
        self.heard += found
        return found

    def until(self, **members: Any) -> dict[str, Any]:
        """The next message with these members."""
        while True:
            [found] = self.read()
            if members.items() <= found.items():
                return found

    def rest(self) -> list[dict[str, Any]]:
        """All messages up to the close."""
        found: list[dict[str, Any]] = []
        try:
            while True:
                found += self.read()
        except ConnectionClosed:
            return found

    def closed(self) -> tuple[int | None, str | None]:
        """Code and reason of the close, once it is there."""
        self.rest()
        return self.connection.close_code, self.connection.close_reason


def address(url: str, run: str, *, path: str = "/runs/{run}/ws", **query: Any) -> str:
    """Where the WebSocket of a run is."""
    return f"{url.replace('http', 'ws', 1)}{path.format(run=run)}?{urlencode(query)}"


@contextmanager
def talk(server: Server | str, run: str, *, headers: Any = None, origin: Any = None, **query: Any) -> Iterator[Talk]:
    """An open connection. Raises `InvalidStatus` where it is refused."""
    url = server if isinstance(server, str) else server.url
    opened = connect(
        address(url, run, **query), additional_headers=headers, origin=origin, proxy=None, open_timeout=PATIENCE,
        close_timeout=PATIENCE, max_queue=None,
    )  # fmt: skip
    with opened as connection:
        yield Talk(connection)


def refused(server: Server, run: str, **more: Any) -> tuple[int, dict[str, Any]]:
    """Status and problem document of a handshake that is refused."""
    try:
        with talk(server, run, **more):
            raise AssertionError("it was accepted")
    except InvalidStatus as error:
        return error.response.status_code, json.loads(error.response.body or b"{}")


def events(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The native events among messages."""
    return [message for message in messages if "seq" in message and message["type"] not in ("reply", "error")]
