"""Viewers as browsers are: they come back to the URL that they were given, with the last id, when they were told to."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import h11
from tests.integration.crowd import TIMEOUT
from tests.integration.proxy import PIECE, closed

from tidelog.testing.frames import Frame, Parser

NOBODY: Final = (502, 503, 504)
"""What is said where nobody takes the request just now. `EventSource` would give up; a page that fetches comes back."""


@dataclass
class Question:
    """One run as its viewer knows it, over however many connections."""

    url: str
    run: str = ""
    last_id: str = ""
    retry: float = 1.0
    """Seconds."""
    lost_at: float | None = None
    frames: list[Frame] = field(default_factory=list)
    status: int = 0
    refusal: bytes = b""
    """The body of an answer that is none: perhaps the run has ended before it had said anything."""

    @property
    def outcome(self) -> str:
        """How it ended, '' while nobody knows."""
        last = self.frames[-1].json if self.frames else {}
        return str(last["outcome"]) if last.get("type") == "run.ended" else self._ended_unheard()

    @property
    def refused(self) -> str:
        """The code with which it was refused, '' where that was no answer of ours, or none."""
        return str(json.loads(self.refusal).get("code", "")) if self.refusal.startswith(b"{") else ""

    def _ended_unheard(self) -> str:
        return "interrupted" if self.refused == "interrupted" else ""


class Browser:
    """What `EventSource` does. When its run has ended it asks the next question, until `leave` is set.

    `ask` gives the URL of a question; a query that holds a key makes it one run, however often it is asked.
    """

    def __init__(self, port: int, leave: asyncio.Event, ask: Callable[[], str]) -> None:
        self.asked: list[Question] = []
        self.away: list[float] = []
        """Seconds from the end of one connection to the first frame of the next."""
        self.refused = 0
        """How often nobody took the request."""
        self.without_store = 0
        """How often that was because the store was away."""
        self.here = asyncio.Event()
        """It has its run before it."""
        self._port = port
        self._leave = leave
        self._ask = ask

    async def watch(self) -> None:
        while not self._leave.is_set():
            question = Question(self._ask())
            self.asked.append(question)
            while True:
                await self._connect(question)
                self.without_store += question.refused == "store_unavailable"
                if question.outcome:
                    break
                self.here.clear()
                question.lost_at = question.lost_at or time.monotonic()
                await asyncio.sleep(question.retry)

    async def _connect(self, question: Question) -> None:
        """One connection, to its end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        http, parser = h11.Connection(h11.CLIENT), Parser()
        headers = [("Host", "test"), ("Accept", "text/event-stream"), ("Connection", "close")]
        headers += [("Last-Event-ID", question.last_id)] if question.last_id else []
        writer.write(http.send(h11.Request(method="GET", target=question.url, headers=headers)) or b"")
        try:
            while not isinstance(event := http.next_event(), h11.EndOfMessage | h11.ConnectionClosed):
                if event is h11.NEED_DATA:
                    async with asyncio.timeout(TIMEOUT):
                        http.receive_data(await reader.read(PIECE))
                else:
                    self._take(question, event, parser)
        except (ConnectionError, h11.RemoteProtocolError):
            pass  # it broke off
        finally:
            await closed(writer)

    def _take(self, question: Question, event: Any, parser: Parser) -> None:
        if isinstance(event, h11.Response):
            self._answered(question, event)
        elif question.status != 200:
            question.refusal += event.data
        else:
            self._read(
                question, [frame for frame in parser.feed(bytes(event.data)) if frame.json["type"] != "reconnect"]
            )
            question.retry = question.retry if parser.retry is None else parser.retry / 1000

    def _answered(self, question: Question, response: h11.Response) -> None:
        assert response.status_code in (200, *NOBODY), (response, question)
        self.refused += response.status_code != 200
        question.status, question.refusal = response.status_code, b""
        run = (
            dict(response.headers).get(b"run-id", b"").decode()
        )  # none: nobody is there, or it goes and starts nothing
        assert run == question.run or not run or not question.run, "one key, one run"
        question.run = question.run or run

    def _read(self, question: Question, frames: list[Frame]) -> None:
        if not frames:
            return
        question.frames += frames
        question.last_id = frames[-1].id
        self.here.set()
        if question.lost_at is not None:
            self.away.append(time.monotonic() - question.lost_at)
            question.lost_at = None
