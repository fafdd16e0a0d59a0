"""Chat completions: chunks, what `client.chat.completions.stream()` makes of them, and whole answers.

The tricky rules first. Chunks name their completion by `id`; compatible servers leave it out or use it again, so that text
behind the end of a choice begins another completion. Fragments of a call are told apart by `index`; some servers give all calls
the same one, or none, and then it is another `id` that begins another call. Usage is a total which may be told in several chunks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from tidelog import events as e
from tidelog.parts import Parts
from tidelog.sources.openai_shapes import Call, Calls, Cited, ended, failure, fields, get

_REASONS: Final[dict[str, e.FinishReason]] = {
    "stop": "stop", "length": "length", "tool_calls": "tool_calls", "function_call": "tool_calls",
    "content_filter": "content_filter",
}  # fmt: skip
_DELTA: Final = "tool_calls.function.arguments.delta"
_DONE: Final = "tool_calls.function.arguments.done"


class Chat:
    """Translates chunks of any number of completions."""

    def __init__(self, parts: Parts, *, calls: Calls, cited: Cited) -> None:
        self._parts = parts
        self._begin: Callable[[], _Choice] = lambda: _Choice(parts, calls, cited)
        self._completions: dict[str, _Completion] = {}
        """The latest completion of each id."""
        self._latest: _Completion | None = None
        self._derived: _Choice | None = None
        self._repeats: Counter[str] = Counter()
        """How many derived events of each kind may repeat the chunk that was fed last."""

    def feed(self, chunk: Any) -> Iterator[e.Event]:
        """The events of a chunk, or of a whole completion. Raises `SourceError` for one that tells of an error."""
        told = fields(chunk)
        if error := told.get("error"):
            raise failure(error)
        choices = [fields(choice) for choice in told.get("choices") or ()]
        usage = told.get("usage") or get(told.get("x_groq"), "usage")
        if not choices and not usage:
            return
        id, whole = str(told.get("id") or ""), told.get("object") == "chat.completion"
        completion = self._completions.get(id)
        if whole and completion is not None and completion.streams:
            completion.streams = False  # the answer that its chunks have added up to
            return
        if completion is None and not choices:
            completion = self._latest  # some servers give the chunk with the usage no id
        if completion is None or whole or completion.is_over_before(choices):
            yield from self._estimate()
            completion = self._completions[id] = self._latest = _Completion(self._begin, streams=bool(id) and not whole)
        yield from completion.take(choices, told.get("model"))
        if usage:
            completion.used = (get(usage, "prompt_tokens") or 0, get(usage, "completion_tokens") or 0)
            if not choices or completion.is_over:
                yield from completion.tell(self._parts)

    def event(self, event: Any) -> Iterable[e.Event]:
        """The events of what `.stream()` yields."""
        kind = get(event, "type")
        if kind == "chunk":
            chunk = get(event, "chunk")
            self._repeats = _derived_from(fields(chunk).get("choices") or ())
            return self.feed(chunk)
        step = _STEPS.get(kind)
        if step is None:
            return ()
        if self._repeats[kind] > 0:
            self._repeats[kind] -= 1
            return ()
        if self._derived is None:
            self._derived = self._begin()
        return step(self._derived, event)

    def end(self) -> Iterator[e.Event]:
        """What is open is ended; usage that was told on the way is told now."""
        if self._derived is not None:
            yield from self._derived.close()
        for completion in self._completions.values():
            yield from completion.close()
            yield from completion.tell(self._parts)

    def _estimate(self) -> Iterator[e.Event]:
        """Before another completion begins, whose usage would hide what the ones before it said without telling theirs."""
        untold = [each for each in self._completions.values() if not each.told]
        if not untold or not all(each.is_over for each in untold):
            return
        if (usage := self._parts.estimate()) is not None:
            yield usage
        for each in untold:
            each.told = each.guessed = True


class _Completion:
    """The choices of one completion, and its tokens."""

    def __init__(self, begin: Callable[[], _Choice], *, streams: bool) -> None:
        self.streams = streams
        """It came in chunks, and may come again as a whole."""
        self.used = (0, 0)
        self.told = False
        self.guessed = False
        """Its output was estimated before it was told."""
        self._begin = begin
        self._choices: dict[int, _Choice] = {}
        self._model: str | None = None
        self._counted = (0, 0)

    @property
    def is_over(self) -> bool:
        return all(choice.finished for choice in self._choices.values())

    def is_over_before(self, choices: Iterable[Mapping[str, Any]]) -> bool:
        """Whether these choices say something that would come behind an end."""
        for told in choices:
            choice = self._choices.get(told.get("index") or 0)
            if choice is not None and choice.finished and _says_something(told):
                return True
        return False

    def take(self, choices: Iterable[Mapping[str, Any]], model: str | None) -> Iterator[e.Event]:
        self._model = model or self._model
        for told in choices:
            index = told.get("index") or 0
            choice = self._choices.get(index)
            if choice is None:
                choice = self._choices[index] = self._begin()
            yield from choice.take(told, self._model)

    def tell(self, parts: Parts) -> Iterator[e.Event]:
        """Counts that are all zero tell nothing: servers that do not count send them."""
        read, wrote = self.used[0] - self._counted[0], self.used[1] - self._counted[1]
        self._counted = self.used
        if read or wrote:
            self.told = True
            yield parts.used(read, 0 if self.guessed else wrote)

    def close(self) -> Iterator[e.Event]:
        for choice in self._choices.values():
            yield from choice.close()


class _Choice:
    """One answer: its reasoning, its text and its calls, each in a part of its own."""

    def __init__(self, parts: Parts, calls: Calls, cited: Cited) -> None:
        self.finished = False
        self._parts = parts
        self._names = calls
        self._cited = cited
        self._text: str | None = None
        self._refusal: str | None = None
        self._reasoning: str | None = None
        self._refused = False
        self._said: set[str] = set()
        """What of `text` and `refusal` was said, until an event tells that it is all."""
        self._calls: dict[Any, Call] = {}
        self._last: Any = None

    def take(self, told: Mapping[str, Any], model: str | None) -> Iterator[e.Event]:
        delta = fields(told.get("delta") or told.get("message") or {})
        if thought := delta.get("reasoning_content") or delta.get(
            "reasoning"
        ):  # one server sends both, with the same text
            yield from self._think(thought)
        if said := delta.get("content") or told.get("text") or get(delta.get("audio"), "transcript"):
            yield from self.say(said)
        if refused := delta.get("refusal"):
            yield from self.refuse(refused)
        for fragment in delta.get("tool_calls") or ():
            yield from self.call(fragment)
        if function := delta.get("function_call"):
            yield from self.call({"index": "function", "function": function})
        if annotations := delta.get("annotations"):
            yield from self._cited.tell(annotations)
        if (reason := told.get("finish_reason")) and not self.finished:
            yield from self._finish(reason, model)

    def say(self, text: Any) -> Iterator[e.Event]:
        text = text if isinstance(text, str) else _joined(text)
        if not text:
            return
        if self._text is None:
            yield from self._end_reasoning()
            self._text = self._parts.text()
            self._said.add("text")
        yield e.TextDelta(part=self._text, text=text)

    def refuse(self, text: str) -> Iterator[e.Event]:
        self._refused = True
        if self._refusal is None:
            yield from self._end_reasoning()
            yield from self._end_text()
            self._refusal = self._parts.text()
            self._said.add("refusal")
        yield e.TextDelta(part=self._refusal, text=text)

    def call(self, fragment: Any) -> Iterator[e.Event]:
        """A fragment of a call, or a whole one."""
        function, id, index = get(fragment, "function"), get(fragment, "id"), get(fragment, "index")
        name = get(function, "name")
        key = self._last if index is None else index
        call = self._calls.get(key)
        another = call is not None and (bool(id and id != call.id) or (index is None and bool(name) and call.started))
        if call is None or another:
            if call is None:
                yield from self._end_reasoning()
                yield from self._end_text()
            else:
                yield from call.whole()
            key = ("unnumbered", len(self._calls)) if index is None else index
            call = self._calls[key] = Call(self._names.name(id), id)
        self._last = key
        if name:
            yield from call.start(name)
        yield from call.more(get(function, "arguments"))

    def said(self, event: Any) -> Iterator[e.Event]:
        """All text was told: where nothing of it was, it is told now."""
        if "text" not in self._said:
            yield from self.say(get(event, "content"))
        self._said.discard("text")
        yield from self._end_text()

    def refused(self, event: Any) -> Iterator[e.Event]:
        if "refusal" not in self._said:
            yield from self.refuse(get(event, "refusal"))
        self._said.discard("refusal")
        yield from self._end_refusal()

    def called(self, event: Any) -> Iterator[e.Event]:
        call = self._calls.get(get(event, "index"))
        if call is None:
            yield from self.call(_fragment(event, get(event, "arguments")))
        yield from ended([self._calls.pop(get(event, "index"))])

    def close(self) -> Iterator[e.Event]:
        yield from self._end_reasoning()
        yield from self._end_text()
        yield from self._end_refusal()
        yield from ended(self._calls.values())

    def _finish(self, reason: str, model: str | None) -> Iterator[e.Event]:
        self.finished = True
        yield from self.close()
        yield e.Finish(reason="refusal" if self._refused else _REASONS.get(reason, "other"), raw=reason, model=model)

    def _think(self, text: Any) -> Iterator[e.Event]:
        if not isinstance(text, str):
            return
        if self._reasoning is None:
            yield from self._end_text()
            self._reasoning = self._parts.reasoning()
        yield e.ReasoningDelta(part=self._reasoning, text=text)

    def _end_text(self) -> Iterator[e.Event]:
        part, self._text = self._text, None
        if part is not None:
            yield e.TextEnded(part=part)

    def _end_refusal(self) -> Iterator[e.Event]:
        part, self._refusal = self._refusal, None
        if part is not None:
            yield e.TextEnded(part=part)

    def _end_reasoning(self) -> Iterator[e.Event]:
        part, self._reasoning = self._reasoning, None
        if part is not None:
            yield e.ReasoningEnded(part=part)


_SAYING: Final = ("content", "refusal", "reasoning_content", "reasoning", "tool_calls", "function_call")


def _says_something(choice: Mapping[str, Any]) -> bool:
    delta = fields(choice.get("delta") or choice.get("message") or {})
    return bool(choice.get("text")) or any(delta.get(name) for name in _SAYING)


def _joined(pieces: Any) -> str:
    """The text of content that comes as a list of pieces."""
    return "".join(get(piece, "text") or "" for piece in pieces) if isinstance(pieces, list) else ""


def _derived_from(choices: Iterable[Any]) -> Counter[str]:
    """How many events of each kind `.stream()` may derive from a chunk."""
    found: Counter[str] = Counter()
    for choice in choices:
        found.update(("content.delta", "content.done", "refusal.delta", "refusal.done", _DONE))
        found[_DELTA] += len(get(get(choice, "delta"), "tool_calls") or ())
    return found


def _fragment(event: Any, arguments: Any) -> Mapping[str, Any]:
    return {"index": get(event, "index"), "function": {"name": get(event, "name"), "arguments": arguments}}


_STEPS: Final[dict[str, Callable[[_Choice, Any], Iterator[e.Event]]]] = {
    "content.delta": lambda choice, event: choice.say(get(event, "delta")),
    "content.done": _Choice.said,
    "refusal.delta": lambda choice, event: choice.refuse(get(event, "delta")),
    "refusal.done": _Choice.refused,
    _DELTA: lambda choice, event: choice.call(_fragment(event, get(event, "arguments_delta"))),
    _DONE: _Choice.called,
}
