"""What users yield becomes events: a str is text, a dict or a model data, an event itself, a library's chunk what it means."""

from __future__ import annotations

import codecs
import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from tidelog import events as e
from tidelog import registry
from tidelog.errors import InvalidEvent
from tidelog.parts import Chunk, Parts
from tidelog.seams import Translator

log = logging.getLogger("tidelog")

_Decoder: Final = codecs.getincrementaldecoder("utf-8")
Feed = Callable[[Any], Iterable[e.Event]]


class Values:
    """The translator of what users yield: plain values, and the chunks of libraries that the table of sources knows.

    Text goes to a part of its own; after a tool call, or once it was ended, to the next.
    """

    def __init__(self, parts: Parts | None = None) -> None:
        """`parts` knows the names that an earlier source of the run has used."""
        self._parts = parts or Parts()
        self._part: str | None = None
        """The part that text goes to."""
        self._open = False
        self._break = False
        self._warned = False
        self._bytes = _Decoder("replace")
        self._libraries: dict[str, Translator] = {}
        self._kinds: dict[type, Feed | None] = {}
        """What takes the values of a class; None: they are data."""

    def feed(self, chunk: Any) -> Iterable[e.Event]:
        """The events of this value. Raises `InvalidEvent` for a value that is none."""
        kind = type(chunk)
        if kind is str:
            return self._text(chunk) if chunk else ()
        if (known := self._kinds.get(kind)) is not None:
            return self._foreign(known(chunk))
        if kind is Chunk:
            return self._foreign(self._library(chunk.library).feed(chunk.value))
        if isinstance(chunk, e.Event):
            return self._event(chunk)
        if chunk is None:
            return ()
        if isinstance(chunk, bytes):
            return self.feed(self._bytes.decode(chunk))
        if isinstance(chunk, str):
            return self.feed(str.__str__(chunk))
        known = None if kind in self._kinds else self._recognise(kind)
        return (_data(chunk),) if known is None else self._foreign(known(chunk))

    def end(self) -> Iterable[e.Event]:
        """The text of bytes that were cut in a character, and what the libraries' translators still owe."""
        yield from self.feed(self._bytes.decode(b"", True))
        for translator in self._libraries.values():
            yield from self._noted(translator.end())

    def usage(self) -> e.Usage | None:
        """The usage of a run that is cut: with an estimate of what no provider has told. None if there is nothing to tell."""
        return self._parts.estimate()

    def again(self) -> None:
        """Another attempt begins: forget the streams of the one that failed. What they used was used.

        Where that had claimed the part of a snapshot, its text was held back, and the part is to be gone on with again.
        """
        if self._part in (None, self._parts.snapshot) and not self._break:
            self._part, self._open = None, False
            self._parts.again()
        self._libraries.clear()
        self._kinds.clear()
        self._bytes.reset()

    def _text(self, text: str) -> Iterable[e.Event]:
        if text.startswith("data:") and not self._warned:
            self._warned = True
            # Never the text itself: what a model says belongs into no log.
            log.warning(
                "a run yields 'data: …': tidelog writes the SSE frames itself; yield the text alone (docs/coming-from.md)"
            )
        if self._break:
            self._break = False
            if self._open and self._part is not None:
                yield e.TextEnded(part=self._part)
                self._parts.ended(self._part)
                self._part, self._open = None, False
        if self._part is None:
            self._part = self._parts.text()
        yield e.TextDelta(part=self._part, text=text)
        self._open = True  # only once it was accepted

    def _event(self, event: e.Event) -> Iterable[e.Event]:
        kind = type(event)
        if isinstance(event, e.RunStarted | e.RunEnded):
            raise InvalidEvent(f"{kind.__name__} is the run's own; return from the generator, or raise, to end it.")
        if isinstance(event, e.QuestionAsked | e.QuestionAnswered):
            raise InvalidEvent(f"{kind.__name__} is the run's own; `await tide.ask(...)` to put a question.")
        # Structs do not check their fields, and no reader would see such an event.
        if e.decode(e.encode(event)) is None:
            raise InvalidEvent(f"{kind.__name__} is no event of this protocol, or has a field of a wrong type.")
        if kind is e.ToolStarted:
            self.part()
        elif isinstance(event, e.Usage):
            self._parts.told(event)
        elif isinstance(event, e.TextSnapshot) and self._part is None and event.part == self._parts.upcoming:
            self._parts.begun()
        elif isinstance(event, e.TextDelta) and event.part == (self._part or self._parts.upcoming):
            self._part, self._open = self._part or self._parts.text(), True
        elif isinstance(event, e.TextEnded) and event.part == (self._part or self._parts.upcoming):
            self._part, self._open = self._part or self._parts.text(), False
            self._part = None
        self._note(event)
        return (event,)

    def _note(self, event: e.Event) -> None:
        """The names that the application uses are its own."""
        name = getattr(event, "part", None) or getattr(event, "call", None)
        if name is not None:
            self._parts.taken(name)
            if type(event) is e.TextEnded:
                self._parts.ended(name)

    def part(self) -> None:
        """A tool call or a question comes between: what follows is another part, the text that a snapshot opened included."""
        self._break = True
        if self._part is None and self._parts.unclaimed:
            self._part, self._open = self._parts.text(), True

    def _foreign(self, events: Iterable[e.Event]) -> Iterable[e.Event]:
        """What a library's translator gave for a chunk."""
        if type(events) is not tuple:
            return self._noted(events)
        if len(events) == 1 and type(events[0]) is e.TextDelta:
            self._parts.hear(events[0].text)  # a token of text, nearly always
            return events
        return self._noted(events) if events else events

    def _noted(self, events: Iterable[e.Event]) -> Iterable[e.Event]:
        """A library's events, with an eye on what they mean for the parts and the usage of the run."""
        for event in events:
            kind = type(event)
            if kind is e.TextDelta or kind is e.ReasoningDelta:
                self._parts.hear(event.text)  # type: ignore[attr-defined]
            elif kind is e.ToolInputDelta:
                self._parts.hear(event.json)  # type: ignore[attr-defined]
            elif kind is e.ToolStarted:
                self.part()
                self._parts.taken(event.call)  # type: ignore[attr-defined]
            yield event

    def _library(self, name: str) -> Translator:
        found = self._libraries.get(name)
        if found is None:
            found = self._libraries[name] = registry.source(name)(self._parts)
        return found

    def _recognise(self, kind: type) -> Feed | None:
        """What feeds the translator of a class, by the package that it or one of its bases comes from."""
        found: Feed | None = None
        for each in kind.__mro__:
            package = each.__module__.partition(".")[0]
            if registry.has_source(package) and registry.source(package).takes(each):
                found = self._library(package).feed
                break
        self._kinds[kind] = found
        return found


def _data(value: Any) -> e.Data:
    if isinstance(value, Mapping):
        return e.Data(data=dict(value))
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        return e.Data(name=type(value).__name__, data=dump(mode="json"))
    if isinstance(value, msgspec.Struct) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        return e.Data(name=type(value).__name__, data=msgspec.to_builtins(value))
    raise InvalidEvent(
        f"a run cannot yield {type(value).__name__}: yield str, dict, an event, a pydantic model or a dataclass."
    )
