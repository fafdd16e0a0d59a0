"""URLs of the Redis store."""

from __future__ import annotations

import pytest

from tidelog.errors import InvalidRequest
from tidelog.stores.redis.nodes import kwargs_of
from tidelog.stores.redis.place import Place, parse


def test_one_server() -> None:
    assert parse("redis://host") == Place(("redis://host/",))
    found = parse("rediss://me:secret@host:1/2?prefix=p&beat=0.5&ack=aof&store_patience=3&ttl=60&ssl_cert_reqs=none")
    assert found.urls == ("rediss://me:secret@host:1/2?ssl_cert_reqs=none",)
    assert found[1:] == ("one", "", (), "p", 0.5, 3.0, 60, "aof")


def test_a_cluster() -> None:
    found = parse("rediss+cluster://me:secret@a:1,[::1]:2/0?prefix=p&ssl_cert_reqs=none")
    assert found.kind == "cluster"
    assert found.urls == tuple(f"rediss://me:secret@{host}/0?ssl_cert_reqs=none" for host in ("a:1", "[::1]:2"))
    assert found.prefix == "p"
    assert (kwargs_of(found.urls[1])["host"], kwargs_of(found.urls[1])["port"]) == ("::1", 2)


def test_sentinels() -> None:
    found = parse("redis+sentinel://me:secret@a:1,b:2/tide/3?sentinel_password=other&ack=replica")
    assert (found.kind, found.service, found.asking, found.ack) == (
        "sentinel",
        "tide",
        (("password", "other"),),
        "replica",
    )
    assert found.urls == ("redis://me:secret@a:1/3", "redis://me:secret@b:2/3")
    assert parse("redis+sentinel://a:1/tide").urls == ("redis://a:1/",)


@pytest.mark.parametrize(
    "url",
    [
        "redis+other://a:1",
        "redis+cluster://a:1/1",
        "redis+cluster://",
        "redis+cluster://a:1,",
        "redis+sentinel://a:1",
        "redis://a?ack=never",
        "redis://a?beat=0",
        "redis://a?prefix={}",
    ],
)
def test_what_makes_no_sense_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest):
        parse(url)


@pytest.mark.parametrize("url", ["redis://a?socket_timeout=x", "redis://a?nonsense=1", "redis://a:x"])
def test_what_redis_py_does_not_take_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest):
        kwargs_of(parse(url).urls[0])
