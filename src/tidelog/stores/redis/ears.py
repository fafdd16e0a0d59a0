"""The connections that hear of changes: one to each server. What is lost is made anew, and all that is wanted is heard again.

In a cluster each channel is heard at the node that has its slot, which alone tells of it. The slot may move: the old node then
lets go of the channel, and the new one is looked for.
redis-py's own subscriptions cannot be changed by one task while another one listens: a lost connection is then made twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final

import hiredis
from redis.exceptions import RedisError

from tidelog.errors import Unavailable
from tidelog.stores.redis.nodes import Node, Nodes
from tidelog.stores.redis.wire import Line, packed
from tidelog.tasks import cancelled

AGAIN: Final = 0.2
"""Seconds until a lost connection is made again, or a channel that nobody has is looked for again."""
SILENCE: Final = 5.0
"""Seconds without a word after which Redis is asked for one, and after which a connection without an answer is lost."""

_log = logging.getLogger("tidelog.stores.redis")


class Ears:
    """`heard` is told of each channel from when on it is heard, again after each loss; `told` of each message.

    `back` is called when a server is heard after a time in which it was not, and when others have taken the place of one.
    """

    def __init__(
        self, nodes: Nodes, *, heard: Callable[[str], None], told: Callable[[str, bytes], None],
        back: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self._nodes = nodes
        self._heard = heard
        self._told = told
        self._back = back
        self._loop = asyncio.get_running_loop()
        self._ears: dict[Node, Ear] = {}
        self._at: dict[str, Ear | None] = {}
        """Each channel that is wanted, and where it is heard; None while nobody has its slot."""
        self._astray: dict[str, None] = {}
        """Channels that a server has let go, or does not take."""
        self._due = self._over = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._leaving: set[asyncio.Task[None]] = set()
        """These are not cancelled."""

    async def start(self) -> None:
        """Connect to all servers, and stay connected. Raises what redis-py raises, if none can be heard."""
        self._nodes.changed = self._rearrange
        ears = [self._ear(node) for node in self._nodes.all()]
        found = await asyncio.gather(*(ear.begin() for ear in ears), return_exceptions=True)
        failures = [error for error in found if isinstance(error, BaseException)]
        if len(failures) == len(ears):
            raise failures[0]
        for ear in ears:
            ear.keep()

    async def aclose(self) -> None:
        """Hear nothing more."""
        self._over = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for ear in self._ears.values():
            await ear.aclose()
        self._ears.clear()
        if self._leaving:
            await asyncio.wait(self._leaving)

    def want(self, channel: str, heard: bool) -> None:
        """Hear this channel from now on, or no longer."""
        ear = self._at.get(channel) or (self._place(channel) if heard else None)
        if heard:
            self._at[channel] = ear
        else:
            self._at.pop(channel, None)
        if ear is not None:
            ear.want(channel, heard)

    def _place(self, channel: str) -> Ear | None:
        try:
            node = self._nodes.node(channel)
        except Unavailable:
            return None
        ear = self._ears.get(node)
        if ear is None and not self._over:
            ear = self._ear(node)
            ear.keep()
        return ear

    def _ear(self, node: Node) -> Ear:
        ear = self._ears[node] = Ear(node, self._nodes, self._heard, self._told, self._back, self._lose)
        return ear

    def _rearrange(self) -> None:
        """Others may have slots than did before. Called often, and done once in a turn of the loop."""
        if not self._due:
            self._due = True
            self._loop.call_soon(self._arrange)

    def _arrange(self) -> None:
        self._due = False
        if self._over:
            return
        nodes = self._nodes.all()
        for node in self._ears.keys() - set(nodes):
            leaving = self._loop.create_task(self._ears.pop(node).aclose())
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)
            self._loop.call_soon(self._back)
        for node in nodes:
            if node not in self._ears:
                self._ear(node).keep()
        for channel, ear in self._at.items():
            place = self._place(channel)
            if place is not ear:
                self._at[channel] = place
                if ear is not None:
                    ear.want(channel, False)
                if place is not None:
                    place.want(channel, True)

    def _lose(self, channel: str) -> None:
        """A server does not tell of this channel, or no longer."""
        if channel in self._at:
            if not self._astray:
                self._spawn(self._look())
            self._astray[channel] = None

    async def _look(self) -> None:
        await self._nodes.refresh()
        await asyncio.sleep(AGAIN)  # a cluster needs a moment, too
        astray, self._astray = self._astray, {}
        for channel in astray:
            ear = self._at.get(channel)
            if ear is not None:
                ear.want(channel, True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Ear:
    """What is heard of one server. `lose` is told of channels that it lets go, or does not take."""

    def __init__(
        self, node: Node, nodes: Nodes, heard: Callable[[str], None], told: Callable[[str, bytes], None],
        back: Callable[[], None], lose: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._node = node
        self._nodes = nodes
        self._heard = heard
        self._told = told
        self._back = back
        self._lose = lose
        self._loop = asyncio.get_running_loop()
        self._wanted: dict[str, None] = {}
        self._changed: dict[str, None] = {}
        """Channels to be subscribed to, or not any more, in this turn of the loop."""
        self._line: Heard | None = None
        self._keeping: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Connect. Raises what redis-py raises."""
        line = Heard(await self._node.connect(), self._heard, self._told, self._gone, sharded=self._nodes.only is None)
        self._line = line
        line.hear(self._wanted)

    def keep(self) -> None:
        """Stay connected."""
        self._keeping = self._loop.create_task(self._keep())

    async def aclose(self) -> None:
        """Hear nothing more."""
        if self._keeping is not None:
            await cancelled(self._keeping)
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
            self._line.leave([channel for channel in changed if channel not in self._wanted])
            self._line.hear([channel for channel in changed if channel in self._wanted])

    def _gone(self, channel: str) -> None:
        if channel in self._wanted and channel not in self._changed:
            self._lose(channel)

    async def _keep(self) -> None:
        lost = False
        while True:
            if self._line is not None:
                await self._line.lost()
                await self._line.aclose()
                self._line, lost = None, True
                _log.warning("the connection that hears of changes was lost, will try again: %s", self._node.name)
            if lost:
                await self._nodes.refresh(self._node)
                await asyncio.sleep(AGAIN)
            with contextlib.suppress(RedisError, OSError):
                await self.begin()
                if lost:
                    self._back()
            lost = self._line is None


class Heard(Line):
    """A connection that has subscribed."""

    def __init__(
        self, connection: Any, heard: Callable[[str], None], told: Callable[[str, bytes], None],
        gone: Callable[[str], None], *, sharded: bool,
    ) -> None:  # fmt: skip
        super().__init__(connection)
        self._heard = heard
        self._told = told
        self._gone = gone
        self._sharded = sharded
        self._asked: deque[str] = deque()
        """Channels of shards that are asked for: each has one answer, in this order."""
        self._words = 0
        self._end = self._loop.create_future()

    def hear(self, channels: Iterable[str]) -> None:
        """Subscribe to these. They are told of as `heard`."""
        if self._sharded:
            self._asked += channels
            self._say("SSUBSCRIBE", channels)
        else:
            self._say("SUBSCRIBE", channels)

    def leave(self, channels: Iterable[str]) -> None:
        """Hear no more of these."""
        self._say("SUNSUBSCRIBE" if self._sharded else "UNSUBSCRIBE", channels)

    async def lost(self) -> None:
        """Until the connection is lost, or Redis does not answer."""
        while not self._end.done():
            before = self._words
            await asyncio.wait((self._end,), timeout=SILENCE)
            if self._words == before and not self._end.done():
                self._transport.write(packed("PING"))
                await asyncio.wait((self._end,), timeout=SILENCE)
                if self._words == before:
                    return

    def take(self, answer: Any) -> None:
        """A message, or that a channel is heard, or not any more."""
        self._words += 1
        if isinstance(answer, list) and len(answer) == 3:
            kind, channel, said = answer
            if kind in (b"message", b"smessage"):
                self._told(channel.decode(), said)
            elif kind in (b"subscribe", b"ssubscribe"):
                if self._asked:
                    self._asked.popleft()
                self._heard(channel.decode())
            elif kind == b"sunsubscribe":
                self._gone(channel.decode())
        elif isinstance(answer, hiredis.ReplyError) and self._asked:
            self._gone(self._asked.popleft())

    def connection_lost(self, error: Exception | None) -> None:
        """Of the transport."""
        super().connection_lost(error)
        if not self._end.done():
            self._end.set_result(None)

    def _say(self, command: str, channels: Iterable[str]) -> None:
        """Channels of two slots cannot go in one command, those of a server that is alone do."""
        commands = [(command, channel) for channel in channels] if self._sharded else [(command, *channels)]
        self._transport.write(b"".join(packed(*one) for one in commands if len(one) > 1))
