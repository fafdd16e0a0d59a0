"""Three processes behind a proxy are replaced one by one while runs live: nobody loses a word, everybody is back soon."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import h11
import pytest
from tests.conftest import count
from tests.integration.crowd import TIMEOUT, check_kept, crowd, quantiles, start
from tests.integration.proxy import PIECE, closed, round_robin

from tidelog.testing import Process
from tidelog.testing.frames import Frame, Parser

NOISE = 3.0
"""Seconds that a busy machine may add to a promise, in a sample that runs beside others."""
PROCESSES: Final = 3
DRAIN: Final = 1.0


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

    @property
    def answered(self) -> bool:
        return bool(self.frames) and self.frames[-1].json["type"] == "run.ended"


class Browser:
    """What `EventSource` does: it comes back to the URL that it was given, with the last id, when it was told to.

    When its run has ended it asks the next question, until `leave` is set.
    """

    def __init__(self, port: int, leave: asyncio.Event, dice: random.Random) -> None:
        self.asked: list[Question] = []
        self.away: list[float] = []
        """Seconds from the end of one connection to the first frame of the next."""
        self.here = asyncio.Event()
        """It has its run before it."""
        self._port = port
        self._leave = leave
        self._dice = dice

    async def watch(self) -> None:
        while not self._leave.is_set():
            question = Question(f"/numbers?to={self._dice.randrange(20, 60)}&pause=0.1&merge=0")
            self.asked.append(question)
            while True:
                await self._connect(question)
                if question.answered:
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
                    http.receive_data(await asyncio.wait_for(reader.read(PIECE), TIMEOUT))
                else:
                    self._take(question, event, parser)
        except (ConnectionError, h11.RemoteProtocolError):
            pass  # it broke off
        finally:
            await closed(writer)

    def _take(self, question: Question, event: Any, parser: Parser) -> None:
        if isinstance(event, h11.Response):
            assert event.status_code == 200, event
            question.run = dict(event.headers).get(b"run-id", b"").decode()  # none: it goes, and starts nothing
            return
        frames = [frame for frame in parser.feed(bytes(event.data)) if frame.json["type"] != "reconnect"]
        question.retry = question.retry if parser.retry is None else parser.retry / 1000
        if frames:
            question.frames += frames
            question.last_id = frames[-1].id
            self.here.set()
            if question.lost_at is not None:
                self.away.append(time.monotonic() - question.lost_at)
                question.lost_at = None


@pytest.mark.soak
def test_rolling_restart(tmp_path: Path) -> None:
    many = count(24, 200)
    with crowd(tmp_path, PROCESSES, env={"APP_DRAIN_TIMEOUT": str(DRAIN)}) as processes:
        browsers = asyncio.run(rolled(tmp_path, processes, many))
        asked = [question for browser in browsers for question in browser.asked]
        outcomes = [check_kept(tmp_path, processes[0].url, question.run) for question in asked]
    for question in asked:
        seen = [frame.json["seq"] for frame in question.frames]
        assert seen == list(range(1, len(seen) + 1)), "whole, and each record once"
    away = [seconds for browser in browsers for seconds in browser.away]
    print(f"{many} viewers, {len(asked)} runs, {outcomes.count('interrupted')} interrupted; away {quantiles(away)}")
    assert set(outcomes) <= {"completed", "interrupted"}
    assert len(away) >= many, "everybody was sent away at least once"
    assert max(away) < 5.0 + count(NOISE, 0)


async def rolled(folder: Path, processes: list[Process], many: int) -> list[Browser]:
    """Watch runs while every process is replaced, the next when the viewers are back, then until all that live have ended."""
    ports = [int(process.url.rpartition(":")[2]) for process in processes]
    leave = asyncio.Event()
    async with round_robin(ports) as port, asyncio.TaskGroup() as group:
        browsers = [Browser(port, leave, random.Random(number)) for number in range(many)]
        watching = [group.create_task(browser.watch()) for browser in browsers]
        await asyncio.gather(*(browser.here.wait() for browser in browsers))
        for number, port in enumerate(ports):
            processes[number].terminate()
            await asyncio.to_thread(processes[number].wait, DRAIN + 2.0 + NOISE)
            processes[number].__exit__(None, None, None)
            env = {"APP_DRAIN_TIMEOUT": str(DRAIN)}
            processes[number] = await asyncio.to_thread(start, folder, port=port, env=env)
            await asyncio.gather(*(browser.here.wait() for browser in browsers))
        leave.set()
        await asyncio.wait(watching)
    return browsers
