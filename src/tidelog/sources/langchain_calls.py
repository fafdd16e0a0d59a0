"""The tool calls of a run, as LangChain tells of them: by the model's own ids, by runs of tools, by messages with results.

The tricky rule first: a tool's run is told without the id of the call that it serves until it ends, so that it claims an
announced call by name and arguments. A message with the result names the call, and has the last word.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from tidelog import events as e
from tidelog.parts import Parts
from tidelog.sources.langchain_values import documents_of, get, plain, shortened, source_of, text_of

FAILED: Final = "The tool failed."
WAITS: Final = "It waits for an answer."


class Call:
    """One call: begun, given its arguments, ended, each at most once."""

    def __init__(self, call: str) -> None:
        self.call = call
        self.name = ""
        self.begun = False
        self.given = False
        self.ended = False
        self.claimed = False
        """A run of a tool serves this call."""
        self.announced = True
        """A model asked for this call."""
        self.input: Any = None
        self._pieces: list[str] = []

    def begin(self, name: str, parent: str | None = None) -> Iterator[e.Event]:
        """Open it, once."""
        if not self.begun:
            self.begun, self.name = True, name
            yield e.ToolStarted(call=self.call, name=name, parent=parent)
            yield from self._told("".join(self._pieces))

    def more(self, piece: str | None) -> Iterator[e.Event]:
        """A piece of the arguments' JSON text; kept back until the call has a name."""
        if piece and not self.given:
            self._pieces.append(piece)
            if self.begun:
                yield from self._told(piece)

    def give(self, input: Any = None) -> Iterator[e.Event]:
        """Its arguments: these, or what has streamed, parsed; text that is no JSON stays text."""
        if self.given:
            return
        yield from self.begin(self.name)
        self.given = True
        self.input = _parsed("".join(self._pieces)) if input is None else plain(input)
        self._pieces.clear()
        yield e.ToolInput(call=self.call, input=self.input)

    def end(self, output: Any = None, *, error: str | None = None) -> Iterator[e.Event]:
        """Close it, once."""
        if self.ended:
            return
        if self._pieces:
            yield from self.give()
        self.ended = True
        if error is None:
            yield e.ToolEnded(call=self.call, output=plain(output))
        else:
            yield e.ToolEnded(call=self.call, outcome="failed", error=error)

    def _told(self, piece: str) -> Iterator[e.Event]:
        if piece:
            yield e.ToolInputDelta(call=self.call, json=piece)


class Calls:
    """All calls of a run."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._calls: dict[str, Call] = {}
        """The last call with each of the provider's ids, in the order in which they came."""
        self._names: set[str] = set()
        self._runs: dict[str, Call] = {}
        """The calls that runs of tools serve."""
        for name, known in parts.open_calls.items():
            call = self.new(name)
            call.begun, call.name, call.given, call.input = True, known.name, known.given, known.input

    def new(self, id: str | None) -> Call:
        """A call that begins: named by the provider's id, unless there is none or it was used before."""
        name = id or self._parts.call()
        while name in self._names:
            name = self._parts.call()
        self._names.add(name)
        call = self._calls[id or name] = Call(name)
        return call

    def of(self, id: str | None) -> Call | None:
        """The last call with this id."""
        return self._calls.get(id) if id else None

    def result(self, message: Any) -> Iterator[e.Event]:
        """A message with a tool's result. A call that nobody announced in this run, as after an interrupt, begins here."""
        id, name = get(message, "tool_call_id"), get(message, "name") or ""
        call = self.of(id) if id else self._waiting(name, None)
        if call is None:
            call = self.new(id)
        if call.ended:
            return
        yield from call.begin(name)
        found = documents_of(get(message, "artifact"))
        if found:
            yield e.Sources([source_of(each) for each in found])
        content = get(message, "content")
        if get(message, "status") == "error":
            yield from call.end(error=shortened(text_of(content)) or FAILED)
        else:
            yield from call.end(shortened(content) if isinstance(content, str) else content)

    def started(self, run: str, name: str, input: Any, *, parents: tuple[str, ...] = ()) -> Iterator[e.Event]:
        """A tool begins to run: it serves an announced call, or is one of its own, inside the nearest of `parents`."""
        call = self._waiting(name, input)
        if call is None:
            parent = next((self._runs[each].call for each in reversed(parents) if each in self._runs), None)
            call = self.new(None)
            call.announced = False
            yield from call.begin(name, parent)
        if input is not None:
            yield from call.give(input)
        call.claimed = True
        self._runs[run] = call

    def finished(self, run: str, output: Any) -> Iterator[e.Event]:
        """A tool's run ends with its output, which may be a message, or a graph's command that holds some."""
        call = self._runs.pop(run, None)
        held = get(get(output, "update"), "messages") if get(output, "update") is not None else None
        messages = [each for each in (held if isinstance(held, list) else [output]) if get(each, "tool_call_id")]
        for message in messages:
            known = self.of(get(message, "tool_call_id"))
            if known is None and call is not None:
                self._calls[get(message, "tool_call_id")] = call
            yield from self.result(message)
        if call is not None and not (messages and call.announced):
            told = get(messages[0], "content") if messages else output
            yield from call.end(shortened(told) if isinstance(told, str) else told)

    def failed(self, run: str, error: Any, *, id: str | None = None) -> Iterator[e.Event]:
        """A tool's run raised. Its words are the application's own: only the kind of the error is told."""
        call = self._runs.pop(run, None)
        call = self.of(id) or call
        if call is not None:
            kind = type(error).__name__ if isinstance(error, BaseException) else FAILED
            yield from call.end(error=kind)

    def interrupt(self) -> Iterator[e.Event]:
        """The graph waits for a person, and another run goes on from there: calls that are open end here, without a result."""
        for call in list(self._calls.values()):
            if call.begun and not call.ended:
                yield from call.give()
                call.ended = True
                yield e.ToolEnded(call=call.call, outcome="stopped", error=WAITS)

    def close(self) -> Iterator[e.Event]:
        """The arguments of calls that streamed and were not given."""
        for call in list(self._calls.values()):
            if call.begun and not call.given and not call.ended:
                yield from call.give()

    def _waiting(self, name: str, input: Any) -> Call | None:
        """The first announced call of this name and these arguments that waits for its tool."""
        wanted = plain(input)
        return next((each for each in self._calls.values() if each.name == name and _fits(each, wanted)), None)


def _fits(call: Call, wanted: Any) -> bool:
    """Whether a tool that runs with these arguments may serve the call: what the graph itself adds to them does not count."""
    if call.ended or call.claimed or not call.announced:
        return False
    asked = call.input
    if wanted is None or not call.given or asked == wanted:
        return True
    if not isinstance(asked, dict):
        return False
    if "__arg1" in asked:  # a tool of one argument that has no name
        return asked["__arg1"] in (wanted.values() if isinstance(wanted, dict) else [wanted])
    return isinstance(wanted, dict) and all(name in wanted and wanted[name] == value for name, value in asked.items())


def _parsed(text: str) -> Any:
    try:
        return json.loads(text) if text else {}
    except ValueError:
        return text
