"""The process beats from a thread of its own: a blocked loop is not dead."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from tidelog.stores.redis import scripts
from tidelog.stores.redis.keys import Keys

_log = logging.getLogger("tidelog.stores.redis")


class Beats:
    """Beats every `every` seconds until it is closed. `dead` is called, in the thread, when somebody has declared us dead.

    What tells of the process lives as long as it beats, and is made again where Redis has lost it.
    """

    def __init__(
        self, client: Redis, keys: Keys, owner: str, *, every: float, ttl: int, dead: Callable[[], None]
    ) -> None:
        self._client = client
        self._keys = keys
        self._owner = owner
        self._every = every
        self._ttl = ttl
        self._dead = dead
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="tidelog-beats", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Beat no more; blocks for one beat at most. Leaves the lease to be taken at once."""
        self._over.set()
        self._thread.join()
        try:
            self._client.set(self._keys.beat(self._owner), "dead", ex=self._ttl)
        except (RedisError, OSError) as error:
            _log.warning("the lease could not be given up: %s", error)
        self._client.close()

    def _work(self) -> None:
        beat: Any = self._client.register_script(scripts.BEAT)
        alive = True
        while not self._over.wait(self._every):
            try:
                before, alive = alive, bool(beat(keys=[self._keys.beat(self._owner)], args=[self._ttl]))
                if alive:
                    self._be_known()
            except (RedisError, OSError) as error:
                _log.warning("the lease could not be beaten: %s", error)
                continue
            if before and not alive:
                self._dead()

    def _be_known(self) -> None:
        pipe = self._client.pipeline(transaction=False)
        pipe.sadd(self._keys.owners, self._owner)
        pipe.expire(self._keys.owners, self._ttl)
        pipe.expire(self._keys.held(self._owner), self._ttl)
        pipe.execute()
