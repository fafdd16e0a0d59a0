"""LangChain's `astream_log`: patches to a log of runs, read as the events that `astream_events` makes of the same log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from tidelog import events as e
from tidelog.sources.langchain_events import Events
from tidelog.sources.langchain_values import get, is_message

_STREAMED: Final = "/streamed_output/-"
_FINAL: Final = "/final_output"
_LOGS: Final = "/logs/"


class Log:
    """Feeds patches to the events of the run. Only additions count: what a patch replaces was told before."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._root: Any = None
        self._runs: dict[str, Any] = {}
        """The entries of the runs inside, by their names in the log."""
        self._read = 0

    def feed(self, patch: Any) -> Iterator[e.Event]:
        """The events of a patch, or, where the stream gives the whole log each time (`diff=False`), of what is new in it."""
        ops = get(patch, "ops")
        whole = get(patch, "state") is not None
        if ops and get(ops[0], "path") == "" and get(get(ops[0], "value"), "id") != get(self._root, "id"):
            self._read = 0
        for op in ops[self._read :] if whole else ops:
            yield from self._op(get(op, "path"), get(op, "value"))
        if whole:
            self._read = len(ops)

    def _op(self, path: str, value: Any) -> Iterator[e.Event]:
        if path == "":
            self._root, self._runs = value, {}
            yield from self._tell(value, "start", {})
        elif path == _STREAMED:
            yield from self._tell(self._root, "stream", {"chunk": value})
        elif path.startswith(_LOGS):
            yield from self._inside(path.removeprefix(_LOGS), value)

    def _inside(self, path: str, value: Any) -> Iterator[e.Event]:
        if path.endswith(_STREAMED):
            entry = self._runs.get(path.removesuffix(_STREAMED))
            yield from self._tell(entry, "stream", {"chunk": value})
        elif path.endswith(_FINAL):
            entry = self._runs.get(path.removesuffix(_FINAL))
            yield from self._tell(entry, "end", {"output": _output(entry, value)})
        elif get(value, "id") and get(value, "type"):
            self._runs[path] = value
            yield from self._tell(value, "start", {"input": get(value, "inputs")})

    def _tell(self, entry: Any, phase: str, data: dict[str, Any]) -> Iterator[e.Event]:
        if entry is None:
            return
        kind = get(entry, "type")
        if kind == "llm" and is_message(data.get("chunk")):
            kind = "chat_model"
        event = {"event": f"on_{kind}_{phase}", "run_id": get(entry, "id"), "name": get(entry, "name"), "data": data}
        yield from self._events.feed(event)


def _output(entry: Any, value: Any) -> Any:
    """A tool's and a chain's output lies in a dict of its own."""
    boxed = isinstance(value, dict) and list(value) == ["output"] and get(entry, "type") in ("tool", "chain")
    return value["output"] if boxed else value
