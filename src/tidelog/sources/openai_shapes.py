"""What both of OpenAI's APIs share: fields of instances and dicts, calls whose input streams, citations and errors."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from tidelog import events as e
from tidelog.errors import SourceError
from tidelog.parts import Parts

log = logging.getLogger("tidelog")

LONGEST: Final = 16_384
"""Characters that are kept of a text in the result of a tool which the provider ran: a page or an image can be large."""

_CODES: Final = {
    "rate_limit_exceeded": "rate_limited", "rate_limit_error": "rate_limited", "429": "rate_limited",
    "server_overloaded": "overloaded", "overloaded_error": "overloaded", "503": "overloaded", "529": "overloaded",
    "vector_store_timeout": "timed_out", "timeout": "timed_out", "408": "timed_out", "504": "timed_out",
    "invalid_api_key": "provider_error", "400": "invalid_request", "413": "invalid_request",
}  # fmt: skip
_ASKED: Final = ("invalid", "image", "policy", "context_length", "mismatch")
"""Words of codes that blame the request: asking again as it is will not help."""
_WORDS: Final = {
    "invalid_request": "The provider refused the request.",
    "overloaded": "The model server is overloaded.",
}


class Calls:
    """Names the calls of a run: by the provider's ids, each of which is used once."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._used: set[str] = set()

    def name(self, id: Any) -> str:
        """The name of a new call whose provider calls it `id`; None: it has none."""
        name = str(id) if id else self._parts.call()
        while name in self._used:
            name = self._parts.call()
        self._used.add(name)
        return name


class Call:
    """A call whose input streams as JSON text. It starts once its tool is known; input that came before waits for that.

    `around`: the JSON text before and behind the pieces, which then are no JSON but text in a JSON string.
    """

    def __init__(self, call: str, id: Any = None, around: tuple[str, str] | None = None) -> None:
        self.call = call
        self.id = id
        self.started = False
        self.given = False
        self._around = around
        self._pieces: list[str] = []
        self._waiting = ""

    def start(self, name: str) -> Iterator[e.Event]:
        """The tool is known."""
        if self.started:
            return
        self.started = True
        yield e.ToolStarted(call=self.call, name=name)
        if self._waiting:
            yield e.ToolInputDelta(call=self.call, json=self._waiting)

    def more(self, piece: Any) -> Iterator[e.Event]:
        """A piece of the input."""
        if not piece or self.given:
            return
        text = piece if isinstance(piece, str) else json.dumps(piece, ensure_ascii=False)
        if self._around is not None:
            text = json.dumps(text, ensure_ascii=False)[1:-1]
            text = text if self._pieces else self._around[0] + text
        self._pieces.append(text)
        if self.started:
            yield e.ToolInputDelta(call=self.call, json=text)
        else:
            self._waiting += text

    def whole(self) -> Iterator[e.Event]:
        """No more input comes."""
        if not self.given:
            yield from self.start("")
            yield from self.give(parsed("".join(self._pieces) + self._rest))

    def give(self, value: Any) -> Iterator[e.Event]:
        """The whole input, where it is told at once. Told again, it says nothing."""
        if self.given:
            return
        self.given = True
        if self._rest:
            yield e.ToolInputDelta(call=self.call, json=self._rest)
        yield e.ToolInput(call=self.call, input=value)

    @property
    def streamed(self) -> bool:
        """Whether any of its input came in pieces."""
        return bool(self._pieces)

    @property
    def _rest(self) -> str:
        return self._around[1] if self._around is not None and self._pieces else ""


class Cited:
    """The sources of a run, each told once, however often it is cited."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def tell(self, annotations: Any) -> Iterator[e.Event]:
        """The sources among these annotations that are new. One with neither address nor file is none."""
        found = [source for each in annotations or () if (source := _source(each)) and source.id not in self._told]
        self._told.update(source.id for source in found)
        if found:
            yield e.Sources(found)


def failure(error: Any) -> SourceError:
    """The error that a stream tells of. The provider's words, which may hold a key or a prompt, go to the log alone."""
    if isinstance(error, str):
        error = {"message": error}
    log.warning(
        "the OpenAI API says in a stream: %s (%s)", get(error, "message"), get(error, "code") or get(error, "type")
    )
    said = [str(word) for word in (get(error, "code"), get(error, "type")) if word]
    code = next((_CODES[word] for word in said if word in _CODES), None)
    if code is None:
        asked = any(part in word for word in said for part in _ASKED)
        code = "invalid_request" if asked else SourceError.default_code
    return SourceError(_WORDS.get(code, ""), code=code)


def parsed(text: Any) -> Any:
    """The value of JSON text; the text where it is broken, no arguments where it is empty."""
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return text


def readable(value: Any) -> Any:
    """What a person could read of a value: models as dicts, without what is empty, long texts cut."""
    if isinstance(value, str):
        return value if len(value) <= LONGEST else f"{value[:LONGEST]}…"
    if isinstance(value, Mapping):
        return {key: readable(each) for key, each in value.items() if each is not None}
    if isinstance(value, list | tuple):
        return [readable(each) for each in value]
    dump = getattr(value, "model_dump", None)
    return readable(dump(mode="json", warnings=False)) if callable(dump) else value


def get(value: Any, name: str) -> Any:
    """A field of an instance or a dict; None where there is none."""
    return value.get(name) if isinstance(value, dict) else getattr(value, name, None)


def fields(value: Any) -> Mapping[str, Any]:
    """All fields of an instance or a dict. To ask a model for a field that it has not is slow, and most are not there."""
    if isinstance(value, dict):
        return value
    own: Mapping[str, Any] = getattr(value, "__dict__", {})
    extra = getattr(value, "__pydantic_extra__", None)
    return {**own, **extra} if extra else own


def ended(calls: Iterable[Call]) -> Iterator[e.Event]:
    """No more input comes for these."""
    for call in calls:
        yield from call.whole()


def _source(annotation: Any) -> e.Source | None:
    """Chat completions nest what Responses tell flat."""
    cited = get(annotation, "url_citation") or annotation
    url, file = get(cited, "url"), get(cited, "file_id")
    if not (url or file) or get(annotation, "type") == "file_path":  # a file that the model wrote
        return None
    title = get(cited, "title") or get(cited, "filename") or url or file
    address = url if url and url.startswith(("http://", "https://")) else None
    return e.Source(str(url or file), str(title), url=address)
