"""What `tidelog serve` sets for the whole process before it serves. How it serves: test_connection, test_detached."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from tidelog import cli
from tidelog.cli import serving
from tidelog.server.collector import DEFAULT, SERVING, STARTING
from tidelog.server.serve import Server, bind, serve


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


@pytest.mark.parametrize(
    ("before", "after"),
    [(DEFAULT, SERVING), (STARTING, SERVING), ((5000, 5, 5), (5000, 5, 5)), ((0, 0, 0), (0, 0, 0))],
)
def test_the_collector_looks_seldom_unless_somebody_has_chosen(
    before: tuple[int, int, int], after: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[tuple[int, int, int]]()
    monkeypatch.setattr(uvicorn.Server, "run", lambda *_, **__: seen.append(gc.get_threshold()))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("nobody asks")

    gc.set_threshold(*before)
    serve(app, bind("127.0.0.1", 0))
    assert seen == [after]
    assert gc.get_freeze_count() > 0


@pytest.mark.parametrize(("before", "after"), [(DEFAULT, STARTING), ((5000, 5, 5), (5000, 5, 5))])
def test_it_hardly_looks_while_a_server_starts(
    before: tuple[int, int, int], after: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[tuple[int, int, int]]()
    monkeypatch.setattr(serving, "serve", lambda *_, **__: seen.append(gc.get_threshold()))
    gc.set_threshold(*before)
    cli.app(["serve"], standalone_mode=False)
    assert seen == [after]


@pytest.mark.anyio
async def test_what_the_application_makes_as_it_starts_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The collector need not look at it again and again."""
    made: list[list[int]] = []

    async def startup(*_: object) -> None:
        made.extend([number] for number in range(1000))

    monkeypatch.setattr(uvicorn.Server, "startup", startup)
    gc.unfreeze()
    await Server(uvicorn.Config("nobody:app")).startup()
    assert gc.get_freeze_count() > len(made) == 1000
