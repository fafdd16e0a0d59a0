"""What tests of applications and leaves need: a real server, a scripted source, viewers that misbehave on demand.

    from tidelog.testing import Gate, Script, collect, drop, rebuild, serve

    def test_the_answer_survives_a_cut() -> None:
        gate = Gate()
        app = make_app(Script("Hel", "lo ", gate, "world"))
        with serve(app) as server:
            seen = drop(f"{server.url}/chat", after=2)
            gate.open()
            seen += collect(f"{server.url}/chat", last_event_id=seen[-1].id)
        assert rebuild(seen) == "Hello world"

The server has a thread and a loop of its own, and everything here blocks the caller: tests may be plain functions or
coroutines. All waits have a limit and raise `TimeoutError`. The fixture `tide_server` serves an app for one test.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidelog.testing.frames import Frame, Parser
    from tidelog.testing.process import Process, serve_process
    from tidelog.testing.rebuilding import rebuild, transcript
    from tidelog.testing.script import Gate, Script
    from tidelog.testing.serving import Server, serve
    from tidelog.testing.viewing import Viewer, collect, drop, freeze, watch

_PLACES = {
    "frames": ("Frame", "Parser"),
    "process": ("Process", "serve_process"),
    "rebuilding": ("rebuild", "transcript"),
    "script": ("Gate", "Script"),
    "serving": ("Server", "serve"),
    "viewing": ("Viewer", "collect", "drop", "freeze", "watch"),
}

__all__ = [
    "Frame",
    "Gate",
    "Parser",
    "Process",
    "Script",
    "Server",
    "Viewer",
    "collect",
    "drop",
    "freeze",
    "rebuild",
    "serve",
    "serve_process",
    "transcript",
    "watch",
]


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used: pytest loads this package in every run."""
    from importlib import import_module

    for place, names in _PLACES.items():
        if name in names:
            return getattr(import_module(f"tidelog.testing.{place}"), name)
    raise AttributeError(f"module 'tidelog.testing' has no attribute {name!r}")
