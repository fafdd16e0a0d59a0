"""Members that their crowd lets go, or that stand elsewhere than it does: each still gets everything once."""

from __future__ import annotations

import pytest
from tests.parts import turns, until
from tests.transports.test_crowd import KINDS, many, text

from tidelog.transports.crowd import DirectViewer
from tidelog.transports.deliver import Delivery

pytestmark = pytest.mark.anyio


@KINDS
async def test_who_is_let_go_where_nothing_is_to_be_read_hears_what_comes(kind: type[Delivery]) -> None:
    all_ = await many(kind)
    all_.crowd._task.cancel()
    await turns()
    await all_.say(*text("a"))
    await until(lambda: all(wire.words == "a" for wire in all_.wires))
    await all_.gone()


async def test_a_socket_that_is_full_at_a_heartbeat_is_told_later() -> None:
    all_ = await many(DirectViewer)
    slow, leader = all_.wires[-1], all_.crowd._leader
    slow.open = False
    slow.free.clear()
    await leader._beat()
    await turns()
    assert all_.served[-1] not in all_.crowd._members
    slow.open = True
    slow.free.set()
    await all_.say(*text("a"))
    await until(lambda: all(wire.words == "a" for wire in all_.wires))
    await all_.gone()
