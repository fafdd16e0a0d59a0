"""Logs that somebody else may have touched are asked for together, and only if nothing was appended to them meanwhile."""

from __future__ import annotations

import pytest
from tests.parts import turns, until

from tidelog.log import Lease
from tidelog.stores.redis import doubts as module
from tidelog.stores.redis.doubts import Doubts
from tidelog.stores.redis.keys import Keys
from tidelog.stores.redis.lane import Lane

pytestmark = pytest.mark.anyio


def lane(name: str) -> Lane:
    return Lane(name, Keys("tidelog").of(name), Lease("me"), base=0)


async def test_they_are_asked_for_together_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DOUBT", 0.001)
    asked, lanes = list[str](), [lane(name) for name in "abc"]
    doubts = Doubts(lambda one: asked.append(one.name))
    for one in (*lanes, *lanes):
        doubts.add(one)
    assert not asked
    lanes[1].last = 7  # something was appended: what comes of that tells
    await until(lambda: bool(asked))
    await turns()
    assert asked == ["a", "c"]
    doubts.add(lanes[1])
    await until(lambda: len(asked) == 3)
    assert asked[-1] == "b"


async def test_nothing_is_asked_behind_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DOUBT", 0.001)
    asked = list[str]()
    doubts, later = Doubts(lambda one: asked.append(one.name)), Doubts(lambda one: asked.append("later"))
    doubts.add(lane("a"))
    doubts.close()
    later.add(lane("b"))
    await until(lambda: bool(asked))
    assert asked == ["later"]
