"""`examples/follow.py` follows a run over its WebSocket, through cuts, and stops it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from tests.server.chat import Chat

from tidelog.testing import Gate, rebuild, serve

WORDS = [f"{number} " for number in range(30)]


@pytest.fixture
def follow() -> Any:
    path = Path(__file__).parents[2] / "examples" / "follow.py"
    spec = importlib.util.spec_from_file_location("follow", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_has_all_of_it_though_it_was_cut(follow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cuts = 0

    def connect(*given: Any, **more: Any) -> Any:
        nonlocal cuts
        socket = opened(*given, proxy=None, **more)
        if cuts < 3:
            cuts += 1
            socket.socket.shutdown(2)
        return socket

    opened = follow.connect
    monkeypatch.setattr(follow, "connect", connect)
    monkeypatch.setattr(follow.time, "sleep", lambda seconds: None)
    with serve(Chat(*WORDS).app) as server, server.watch("/chat") as start:
        found = list(follow.follow(f"{server.url}/runs/{start.run}"))
    assert rebuild(found) == "".join(WORDS)
    assert found[-1]["outcome"] == "completed"
    assert cuts >= 1, "a cut that comes behind the last message is none"


def test_it_stops(follow: Any) -> None:
    with serve(Chat("a", Gate()).app) as server, server.watch("/chat") as start:
        found = list(follow.follow(f"{server.url}/runs/{start.run}", stop_after=1))
    assert found[-1]["outcome"] == "stopped"
