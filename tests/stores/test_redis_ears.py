"""The connection that hears of changes: lost, and without a word although nobody has closed it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from redis import Redis
from redis.exceptions import ConnectionError
from tests.parts import PATIENCE, turns
from tests.redis_server import RedisServer, redis_server

from tidelog.stores.redis import ears
from tidelog.stores.redis.ears import Ear, Ears
from tidelog.stores.redis.ears import Heard as Line
from tidelog.stores.redis.link import Link
from tidelog.stores.redis.place import parse
from tidelog.testing.conformance import eventually


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server() as found:
        yield found


async def comes(check: Callable[[], bool]) -> None:
    async def checked() -> bool:
        return check()

    assert await eventually(checked)


class Heard:
    """Ears, and what came to them."""

    def __init__(self, link: Link) -> None:
        self.times: Counter[str] = Counter()
        self.said: list[tuple[str, bytes]] = []
        self.ears = Ears(link.nodes, heard=self._heard, told=lambda *said: self.said.append(said))

    @property
    def line(self) -> Line | None:
        """The connection that hears."""
        (ear,) = self.ears._ears.values()
        return ear._line

    def _heard(self, channel: str) -> None:
        self.times[channel] += 1

    async def times_are(self, **times: int) -> None:
        await comes(lambda: dict(self.times) == times)


@pytest.fixture
async def heard(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Heard]:
    monkeypatch.setattr(ears, "SILENCE", 0.5)
    link = Link(parse(redis.url))
    found = Heard(link)
    await found.ears.start()
    yield found
    await found.ears.aclose()
    await link.aclose()


def listeners(redis: RedisServer, channel: str) -> int:
    with Redis(port=redis.port) as client:
        return dict(client.pubsub_numsub(channel))[channel.encode()]


async def publish(redis: RedisServer, channel: str, said: str) -> None:
    def send() -> None:
        with Redis(port=redis.port) as client:
            client.publish(channel, said)

    await asyncio.to_thread(send)


@pytest.mark.anyio
async def test_wishes_of_one_turn_go_together(redis: RedisServer, heard: Heard) -> None:
    for channel in ("a", "b", "c"):
        heard.ears.want(channel, True)
    heard.ears.want("b", False)
    await heard.times_are(a=1, c=1)
    heard.ears.want("a", False)
    heard.ears.want("d", True)
    await heard.times_are(a=1, c=1, d=1)
    await publish(redis, "a", "left")
    await publish(redis, "d", "here")
    await comes(lambda: heard.said == [("d", b"here")])


@pytest.mark.anyio
async def test_after_a_loss_all_that_is_wanted_is_heard_again(redis: RedisServer, heard: Heard) -> None:
    heard.ears.want("a", True)
    await heard.times_are(a=1)
    redis.kill()
    heard.ears.want("b", True)
    await asyncio.to_thread(redis.start)
    await heard.times_are(a=2, b=1)
    assert await asyncio.to_thread(listeners, redis, "a") == 1
    await publish(redis, "b", "x")
    await comes(lambda: heard.said == [("b", b"x")])


@pytest.mark.anyio
async def test_a_connection_without_an_answer_is_lost(redis: RedisServer, heard: Heard) -> None:
    """Nobody has closed it, as when a machine is gone."""
    line = heard.line
    assert line is not None
    heard.ears.want("a", True)
    await heard.times_are(a=1)
    redis.pause()
    await comes(lambda: line.closed)
    redis.go_on()
    await heard.times_are(a=2)


@pytest.mark.anyio
async def test_a_silent_redis_that_answers_is_kept(redis: RedisServer, heard: Heard) -> None:
    line = heard.line
    assert line is not None
    heard.ears.want("a", True)
    await comes(lambda: line._words >= 3)  # the word that it is heard, and answers to nothing but questions
    assert heard.line is line
    assert heard.times == {"a": 1}


@pytest.mark.anyio
async def test_a_cancellation_that_a_connection_swallows_is_repeated() -> None:
    """As `asyncio.wait_for` of Python 3.11 does where what it waits for is done in that moment."""
    swallowed = 0

    async def connect() -> Any:
        nonlocal swallowed
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        swallowed += 1
        raise ConnectionError("not now")

    async def refresh(node: object) -> None:
        """It is where it was."""

    node = SimpleNamespace(name="redis", connect=connect)
    nodes = SimpleNamespace(only=node, refresh=refresh)
    ear = Ear(cast(Any, node), cast(Any, nodes), str, lambda *_: None, lambda: None, str)
    ear.keep()
    await turns()
    await asyncio.wait_for(ear.aclose(), PATIENCE)
    assert swallowed == 1
