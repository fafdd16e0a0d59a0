"""The connection that hears of changes. It is made anew when it is lost, and subscribes to all that is wanted again.

redis-py's own subscriptions cannot be changed by one task while another one listens: a lost connection is then made twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, cast

import hiredis
from redis.exceptions import RedisError

from tidelog.stores.redis.wire import Line

AGAIN: Final = 0.2
"""Seconds until a lost connection is made again."""
SILENCE: Final = 5.0
"""Seconds without a word after which Redis is asked for one, and after which a connection without an answer is lost."""

_log = logging.getLogger("tidelog.stores.redis")


class Ears:
    """`heard` is told of each channel from when on it is heard, again after each loss; `told` of each message.

    `connect` gives a new connection of redis-py, connected.
    """

    def __init__(
        self, connect: Callable[[], Awaitable[Any]], *, heard: Callable[[str], None], told: Callable[[str, bytes], None]
    ) -> None:
        self._connect = connect
        self._heard = heard
        self._told = told
        self._loop = asyncio.get_running_loop()
        self._wanted: dict[str, None] = {}
        self._changed: dict[str, None] = {}
        """Channels to be subscribed to, or not any more, in this turn of the loop."""
        self._line: _Heard | None = None
        self._keeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect, and stay connected. Raises what redis-py raises."""
        await self._begin()
        self._keeping = self._loop.create_task(self._keep())

    async def aclose(self) -> None:
        """Hear nothing more."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait((self._keeping,))
        if self._line is not None:
            await self._line.aclose()

    def want(self, channel: str, heard: bool) -> None:
        """Hear this channel from now on, or no longer."""
        if heard:
            self._wanted[channel] = None
        else:
            self._wanted.pop(channel, None)
        if not self._changed:
            self._loop.call_soon(self._say)
        self._changed[channel] = None

    def _say(self) -> None:
        changed, self._changed = self._changed, {}
        if self._line is not None and not self._line.closed:
            self._line.say("UNSUBSCRIBE", [channel for channel in changed if channel not in self._wanted])
            self._line.say("SUBSCRIBE", [channel for channel in changed if channel in self._wanted])

    async def _begin(self) -> None:
        connection = await self._connect()
        self._line = _Heard(connection, self._heard, self._told)
        self._line.say("SUBSCRIBE", self._wanted)

    async def _keep(self) -> None:
        while True:
            if self._line is not None:
                await self._line.lost()
                await self._line.aclose()
                self._line = None
                _log.warning("the connection that hears of changes was lost, will try again")
            await asyncio.sleep(AGAIN)
            with contextlib.suppress(RedisError, OSError):
                await self._begin()


class _Heard(Line):
    """A connection that has subscribed."""

    def __init__(self, connection: Any, heard: Callable[[str], None], told: Callable[[str, bytes], None]) -> None:
        super().__init__(connection)
        self._heard = heard
        self._told = told
        self._words = 0
        self._end = self._loop.create_future()

    def say(self, command: str, channels: Iterable[str]) -> None:
        """Subscribe to these, or leave them. They are told of as `heard`."""
        words = (command, *channels)
        if len(words) > 1:
            self._transport.write(hiredis.pack_command(cast(tuple[Any, ...], words)))

    async def lost(self) -> None:
        """Until the connection is lost, or Redis does not answer."""
        while not self._end.done():
            before = self._words
            await asyncio.wait((self._end,), timeout=SILENCE)
            if self._words == before and not self._end.done():
                self._transport.write(hiredis.pack_command(("PING",)))
                await asyncio.wait((self._end,), timeout=SILENCE)
                if self._words == before:
                    return

    def take(self, answer: Any) -> None:
        """A message, or that a channel is heard."""
        self._words += 1
        if isinstance(answer, list) and len(answer) == 3:
            kind, channel, said = answer
            if kind == b"message":
                self._told(channel.decode(), said)
            elif kind == b"subscribe":
                self._heard(channel.decode())

    def connection_lost(self, error: Exception | None) -> None:
        """Of the transport."""
        super().connection_lost(error)
        if not self._end.done():
            self._end.set_result(None)
