"""A server that is asked for far more than it takes: every run ends once, nobody hangs, and at the end no slot is held."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.responses import Response
from tests.conftest import count
from tests.server.chat import JSON, NDJSON, make_tide, who
from tests.test_cli import until

from tidelog import SourceError, cancel_after
from tidelog.testing import Server, Viewer, serve

SLOTS, SHARE, QUEUE, VIEWERS = 4, 2, 6, 8


class House:
    """A small house, and how many work in it at once."""

    def __init__(self, store: str) -> None:
        self.tide = make_tide(
            store, principal=who, max_runs=SLOTS, max_runs_per_principal=SHARE, queue=QUEUE, queue_timeout=0.1,
            max_viewers=VIEWERS, heartbeat=0.05,
        )  # fmt: skip
        self.app = FastAPI()
        self.app.include_router(self.tide.router)
        self.working = self.most = 0

        @self.app.get("/{how}")
        async def work(how: str) -> Response:
            options: dict[str, Any] = {"gap_timeout": 0.05} if how == "late" else {"status_hold": 0.01}
            if how == "left":
                options["on_leave"] = cancel_after(0.0)
            return self.tide.response(lambda: self.source(how), max_runs=3, close_timeout=0.1, **options)

    async def source(self, how: str) -> Any:
        self.working += 1
        self.most = max(self.most, self.working)
        try:
            if how == "fails":
                raise SourceError("no")
            yield how
            await asyncio.sleep(60.0 if how in ("late", "left") else 0.01)
            yield how
        finally:
            self.working -= 1

    def held(self) -> tuple[int, int, int, int]:
        """Slots, places, views, and what is counted under any name."""
        admission = self.tide.runner.admission
        counters = (admission.runs._held, admission.runs._waiting_under, admission.viewers._held)
        return len(admission.runs), admission.runs.waiting, len(admission.viewers), sum(map(len, counters))


@pytest.mark.soak
@pytest.mark.parametrize("store", ["memory:", "sqlite"])
def test_at_the_end_nobody_holds_anything(store: str, tmp_path: Path) -> None:
    dice, house = random.Random(7), House(store if store == "memory:" else f"sqlite:///{tmp_path}/t.db")
    seen: Counter[int] = Counter()
    runs: dict[str, str] = {}
    with serve(house.app) as server:
        open_ones: list[Viewer] = []
        for number in range(count(120, 5000)):
            headers = {"X-User": dice.choice(["ann", "bob", "cy"])}
            how = dice.choice(["works", "fails", "late", "left"])
            viewer = _ask(server, f"/{how}", headers, dice)
            seen[viewer.status] += 1
            if "run-id" in viewer.headers:
                runs[viewer.run] = headers["X-User"]
            open_ones.append(viewer)
            while len(open_ones) > dice.randrange(8):
                _leave(open_ones.pop(dice.randrange(len(open_ones))), dice)
            if number % 3 == 0 and runs:
                run, owner = dice.choice(list(runs.items()))
                server.client.post(f"/runs/{run}/stop", headers={"X-User": owner})
        for viewer in open_ones:
            viewer.close()
        _overfill(server, seen)
        until(lambda: server.call(house.held) == (0, 0, 0, 0))
        for run, owner in runs.items():
            assert server.client.get(f"/runs/{run}", headers={"X-User": owner}).json()["state"] == "ended"
    assert house.most <= SLOTS
    assert house.working == 0
    assert seen[200] and seen[429], seen
    assert set(seen) <= {200, 202, 429, 502, 503, 504}, seen


def _overfill(server: Server, seen: Counter[int]) -> None:
    """However slow the machine is: one viewer more than there may be."""
    viewers = [server.watch("/left", headers={"X-User": "ann"}, accept=NDJSON)]
    viewers[0].more()
    for _ in range(VIEWERS):
        viewers.append(server.watch(f"/runs/{viewers[0].run}/events", headers={"X-User": "ann"}, accept=NDJSON))
        seen[viewers[-1].status] += 1
    for viewer in viewers:
        viewer.close()


def _ask(server: Server, path: str, headers: dict[str, str], dice: random.Random) -> Viewer:
    form = dice.choice(["text/event-stream", NDJSON, JSON, "async"])
    if path == "/left" and form in (JSON, "async"):
        form = NDJSON  # somebody must watch, and leave
    if form == "async":
        return server.watch(path, headers={**headers, "Prefer": "respond-async"}, accept=None)
    return server.watch(path, headers=headers, accept=form)


def _leave(viewer: Viewer, dice: random.Random) -> None:
    match dice.randrange(3):
        case 0:
            viewer.drop()
        case 1:
            viewer.close()
        case _:
            viewer.more()
            viewer.close()
