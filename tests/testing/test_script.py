"""Scripts and gates, without a server."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from tidelog.testing import Gate, Script, script

pytestmark = pytest.mark.anyio


async def played(source: Any) -> list[Any]:
    return [one async for one in source]


async def test_steps_in_order() -> None:
    called: list[str] = []

    async def awaited() -> None:
        called.append("awaited")

    play = Script("a", lambda: called.append("called"), {"n": 1}, awaited, "b")
    assert await played(play()) == ["a", {"n": 1}, "b"]
    assert called == ["called", "awaited"]
    assert list(Script("a", "b").sync()) == ["a", "b"]
    [one] = play.plays
    assert (one.opened_in, one.closed_in, one.steps, one.ended_by) == (asyncio.current_task(),) * 2 + (5, None)


async def test_it_counts() -> None:
    play = Script("a", "b")
    assert (play.started, play.closed) == (0, 0)
    first = play()
    assert play.started == 0, "a generator that nobody has advanced has not begun"
    await anext(first)
    assert (play.started, play.closed) == (1, 0)
    await first.aclose()  # type: ignore[attr-defined]
    assert (play.started, play.closed) == (1, 1)
    assert play.plays[0].ended_by is GeneratorExit
    assert await played(play()) == ["a", "b"]
    play.wait_started(2)
    play.wait_closed(2)


async def test_it_raises() -> None:
    play = Script("a", ValueError("x"), "b")
    with pytest.raises(ValueError, match="x"):
        await played(play())
    with pytest.raises(ValueError, match="x"):
        list(play.sync())
    assert [(one.steps, one.ended_by) for one in play.plays] == [(2, ValueError)] * 2


async def test_a_gate_is_opened_from_another_thread() -> None:
    gate = Gate()
    threading.Thread(target=lambda: (gate.reached(), gate.open())).start()
    assert await played(Script("a", gate, "b")()) == ["a", "b"]
    assert (gate.arrived, gate.is_open) == (1, True)
    assert await played(Script(gate, "b")()) == ["b"]


async def test_a_wait_that_is_cancelled_leaves_nothing_behind() -> None:
    gate = Gate()
    play = Script(gate)
    task = asyncio.ensure_future(played(play()))
    await asyncio.to_thread(gate.reached)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert play.plays[0].ended_by is asyncio.CancelledError
    gate.open()


async def test_waits_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "PATIENCE", 0.01)
    with pytest.raises(TimeoutError, match="0 of 1 came"):
        Gate().reached()
    with pytest.raises(TimeoutError, match="nobody opened"):
        Gate().block()
    with pytest.raises(TimeoutError, match="begun 0 of 1"):
        Script().wait_started()
    with pytest.raises(TimeoutError, match="closed 0 of 1"):
        Script().wait_closed()


async def test_a_sync_script_waits_in_its_thread() -> None:
    gate = Gate()
    play = Script("a", gate, "b")
    task = asyncio.ensure_future(asyncio.to_thread(lambda: list(play.sync())))
    await asyncio.to_thread(gate.reached)
    gate.open()
    assert await task == ["a", "b"]
    assert play.plays[0].opened_in is play.plays[0].closed_in
