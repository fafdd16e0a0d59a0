"""The process beats from a thread of its own: a blocked loop is not dead."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable

from tidelog.errors import StoreError, Unavailable
from tidelog.stores.redis import scripts
from tidelog.stores.redis.keys import Keys
from tidelog.stores.redis.link import Link
from tidelog.stores.redis.place import Place

_log = logging.getLogger("tidelog.stores.redis")


class Beats:
    """Beats until it is closed. `dead` is called, in the thread, for each beat that finds that somebody has declared us dead,
    with the time at which it was sent, by the monotonic clock.

    What tells of the process lives as long as it beats, and is made again where Redis has lost it.
    """

    def __init__(self, place: Place, keys: Keys, owner: str, *, dead: Callable[[float], None]) -> None:
        self._place = place
        self._keys = keys
        self._owner = owner
        self._dead = dead
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._work, name="tidelog-beats", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Beat no more; blocks for one beat at most. Leaves the lease to be taken at once."""
        with contextlib.suppress(RuntimeError):  # the thread has come to grief
            self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def _work(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._beat())

    async def _beat(self) -> None:
        link = Link(self._place)
        try:
            with contextlib.suppress(StoreError):  # then it is found later
                await link.find()
            while not await self._over_after(self._place.beat):
                sent = time.monotonic()
                try:
                    alive = await self._once(link)
                except Unavailable as error:
                    _log.warning("the lease could not be beaten: %s", error)
                    continue
                if not alive:
                    self._dead(sent)
            await self._give_up(link)
        finally:
            await link.aclose()

    async def _over_after(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._over.wait()
        return self._over.is_set()

    async def _once(self, link: Link) -> bool:
        ttl, owners = self._place.ttl, self._keys.owners
        if not await link.run(scripts.BEAT, [self._keys.beat(self._owner)], [ttl]):
            return False
        known = [("SADD", owners, self._owner), ("EXPIRE", owners, ttl), ("EXPIRE", self._keys.held(self._owner), ttl)]
        await link.send(known)
        return True

    async def _give_up(self, link: Link) -> None:
        try:
            await link.one("SET", self._keys.beat(self._owner), "dead", "EX", self._place.ttl)
        except Unavailable as error:
            _log.warning("the lease could not be given up: %s", error)
