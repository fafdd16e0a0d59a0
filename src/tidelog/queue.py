"""The queue: runs whose logs are open and that are not set to work yet. Their clocks do not run; all else is as for any run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

from tidelog.admission import Claim, Slots
from tidelog.run import Opener, Run

log = logging.getLogger("tidelog")

TELL_EVERY: Final = 1.0
"""Seconds between two looks at who has come nearer."""
TELL_EACH: Final = 10
"""From this place on every change is told; behind it those of a tenth, so that a long queue costs few records."""
SLICE: Final = 50
"""Runs that are told their place before the loop has a turn."""


class Queue:
    """Sets runs to work, each when it has its slot; for `timeout` seconds it may wait for that, but those in which it is paused.

    `send_off` is called with each that waits when the process goes.
    """

    def __init__(
        self, slots: Slots, *, timeout: float, spawn: Callable[[Coroutine[Any, Any, Any]], None],
        send_off: Callable[[Run], None],
    ) -> None:  # fmt: skip
        self._slots = slots
        self._timeout = timeout
        self._spawn = spawn
        self._send_off = send_off
        self._places: dict[Claim, _Place] = {}
        self._telling = False
        self._closed = False

    def work(self, run: Run, opener: Opener, claim: Claim) -> Coroutine[Any, Any, None]:
        """The work of this run. Where it must wait, that is told before this returns, and once more when it begins."""
        if claim.state != "waiting":
            return run.work(opener)
        place = self._places[claim] = _Place(run)
        claim.granted, run.on_ending = place.grant, place.leave
        place.tell(self._slots.place_of(claim))
        if self._closed:
            self._send_off(run)
        elif not self._telling:
            self._telling = True
            self._spawn(self._tell())
        return self._wait(place, opener, claim)

    def close(self) -> None:
        """The process goes: those that wait are sent off, before anything was spent on them."""
        self._closed = True
        for place in tuple(self._places.values()):
            self._send_off(place.run)

    async def _wait(self, place: _Place, opener: Opener, claim: Claim) -> None:
        """Until the run has its slot or ends, whatever is first; then it works, if only to write its ending."""
        run = place.run
        run.clocks.expect_turn(self._timeout, partial(self._give_up, run))
        try:
            if await place.left:
                run.enter("running")
        finally:
            del self._places[claim]
            run.on_ending = None
        await run.work(opener)

    def _give_up(self, run: Run) -> None:
        log.warning("run %s: over its queue_timeout", run.id)
        run.shed(self._slots.retry_after())

    async def _tell(self) -> None:
        """Tell the runs their places for as long as any waits."""
        try:
            while self._places:
                await asyncio.sleep(TELL_EVERY)
                for position, claim in self._slots.places():
                    if (place := self._places.get(claim)) is not None:
                        place.tell(position)
                    if position % SLICE == 0:
                        await asyncio.sleep(0)
        finally:
            self._telling = False


class _Place:
    """A run in the queue; its head holds the place that it has told."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.left: asyncio.Future[bool] = run.loop.create_future()
        """Done when it waits no longer: whether it has its slot."""

    def grant(self) -> None:
        """It has its slot."""
        if not self.left.done():
            self.left.set_result(True)

    def leave(self) -> None:
        """It ends."""
        if not self.left.done():
            self.left.set_result(False)

    def tell(self, position: int) -> None:
        """Tell the place, if it is worth a record. One that is paused is told once it is resumed."""
        told = self.run.head.position
        if self.left.done() or self.run.paused or position == told:
            return
        if told is None or position <= TELL_EACH or position <= 0.9 * told:
            self.run.enter("queued", position)
