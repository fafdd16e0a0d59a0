"""The store of `redis:` and `rediss:` URLs."""

from __future__ import annotations

from tidelog.errors import InvalidRequest

try:
    import redis as _redis  # noqa: F401
except ImportError as error:
    raise InvalidRequest("A Redis store needs an extra: pip install 'tidelog[redis]'.") from error

from tidelog.stores.redis.store import RedisStore

__all__ = ["RedisStore"]
