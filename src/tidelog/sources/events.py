"""`ServerSentEvent` objects of sse-starlette and of FastAPI: what an endpoint yielded to them can be yielded to tidelog.

They are made for the wire, where everything is text, so that the text must tell what it means. A token of a model may look like
JSON (`42`, `true`, `""`, `[1]`, `{}`) and must stay text, which is why little counts as JSON in an event without a name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

from tidelog import events as e
from tidelog.errors import SENTENCES, SourceError
from tidelog.parts import Parts

_ENDS: Final = ("done", "end")
"""Names of a last event, which says what `run.ended` says."""


class ServerSentEvents:
    """Implements `seams.LibraryTranslator`, for instances and dicts. The first rule that fits an event holds:

    - named `ping`, or without data (a comment, a `retry`): nothing;
    - named `error`: the run fails with its words, the data or the `message`, `detail` or `error` in it;
    - `[DONE]`, or named `done` or `end`, unless its data is an object with something in it: nothing;
    - with another name than `message`: data of this name, read as JSON where it is JSON, else the text;
    - text that is a JSON object or a list of such, none of them empty, and what is no text: data without a name, or with that of
      its class;
    - all other text: text of the answer, as it stands.

    The text of a `JSONServerSentEvent` is JSON, whatever it looks like. Ids and `retry` are dropped: tidelog has its own.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._text: str | None = None

    @staticmethod
    def takes(kind: type) -> bool:
        """The class that both libraries have; of sse-starlette's for JSON it is a base."""
        return kind.__name__ == "ServerSentEvent"

    def feed(self, chunk: Any) -> Iterable[e.Event]:
        """The events of this chunk. Raises `SourceError` for one that is named `error`."""
        event = _get(chunk, "event")
        name = None if event in (None, "", "message") else str(event)
        value = _value(chunk, loosely=name is not None)
        if value is None or name == "ping":
            return ()
        if name == "error":
            raise _error(value)
        if value == "[DONE]" or (name in _ENDS and not _is_object(value)):
            return ()
        if name is None and isinstance(value, str):
            return self._say(value)
        return (e.Data(name=name or _class_name(value), data=_plain(value)),)

    def end(self) -> Iterable[e.Event]:
        """The text is ended, and its tokens are estimated, which no event tells."""
        part, self._text = self._text, None
        if part is not None:
            yield e.TextEnded(part=part)
        if (usage := self._parts.estimate()) is not None:
            yield usage

    def _say(self, text: str) -> Iterator[e.Event]:
        if text:
            if self._text is None:
                self._text = self._parts.text()
            yield e.TextDelta(part=self._text, text=text)


def _value(chunk: Any, *, loosely: bool) -> Any:
    """What the data means: a str is text. `loosely`: anything that can be read as JSON is."""
    raw = _get(chunk, "raw_data")
    data = _get(chunk, "data") if raw is None else raw
    if not isinstance(data, str):
        return data
    sure = loosely or any(kind.__name__ == "JSONServerSentEvent" for kind in type(chunk).__mro__)
    if not sure and data.lstrip()[:1] not in ("{", "["):
        return data
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return data
    if sure or _is_object(found) or (isinstance(found, list) and found and all(map(_is_object, found))):
        return found
    return data


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and bool(value)


def _error(value: Any) -> SourceError:
    """The words are those that the application sent to its users before; the code too, where it is one of ours."""
    code = None
    if isinstance(value, dict):
        code = value.get("code")
        value = next((value[key] for key in ("message", "detail", "error") if isinstance(value.get(key), str)), "")
    return SourceError(
        value if isinstance(value, str) else "", code=code if isinstance(code, str) and code in SENTENCES else None
    )


def _class_name(value: Any) -> str | None:
    return type(value).__name__ if hasattr(value, "model_dump") else None


def _plain(value: Any) -> Any:
    """With the models in it as dicts."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    dump = getattr(value, "model_dump", None)
    return dump(mode="json") if callable(dump) else value


def _get(value: Any, name: str) -> Any:
    """A field of an instance or a dict; None where there is none."""
    return value.get(name) if isinstance(value, dict) else getattr(value, name, None)
