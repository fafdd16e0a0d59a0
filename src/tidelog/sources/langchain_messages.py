"""LangChain's messages: chunks that stream, whole messages, results of tools. LangChain and LangGraph share this.

The tricky rules first. A message that was streamed comes again, whole, in what follows: it is known by its id, and one that had
none by its words. Chunks of one answer may carry the provider's id first and LangChain's own afterwards. A provider's part of
an answer ends when what follows is of another kind; text blocks that follow each other are one part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from tidelog import events as e
from tidelog.parts import Parts
from tidelog.sources.langchain_calls import Call, Calls
from tidelog.sources.langchain_content import Piece, Result, pieces_of
from tidelog.sources.langchain_values import TOOL, documents_of, get, is_answer, is_chunk, shortened, source_of, text_of

_OWN_IDS: Final = ("lc_run-", "run-")
"""How the ids begin that LangChain gives where the provider gives none."""

_STOP = ("stop", "end_turn", "stop_sequence", "eos", "eos_token", "complete", "completed", "end")
_LENGTH = ("length", "max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded")
_CALLS = ("tool_calls", "tool_use", "function_call")
_FILTERED = ("content_filter", "content_filtered", "safety", "recitation", "blocklist", "prohibited_content",
             "guardrail_intervened")  # fmt: skip
_REASONS: Final[dict[str, e.FinishReason]] = {
    **dict.fromkeys(_STOP, "stop"), **dict.fromkeys(_LENGTH, "length"), **dict.fromkeys(_CALLS, "tool_calls"),
    **dict.fromkeys(_FILTERED, "content_filter"), "refusal": "refusal",
}  # fmt: skip


class Answer:
    """One message on its way: its open part, its calls."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        """What it is known by."""
        self.is_message = False
        """It is known by the ids of its chunks."""
        self.text: str | None = None
        self.reasoning: str | None = None
        self.place: Any = None
        """Which of the answer's pieces of reasoning is open."""
        self.refused = False
        self.model: str | None = None
        self.begun = False
        """It has said something."""
        self.finished = False
        self.counted = False
        """Its usage was told."""
        self.calls: list[Call] = []
        self.at: dict[Any, Call] = {}
        """By index: the last call that each has named."""


class Messages:
    """The messages of a run and, in `calls`, what they say of tools."""

    def __init__(self, parts: Parts) -> None:
        self.calls = Calls(parts)
        self._parts = parts
        self._answers: dict[str, Answer] = {}
        """Those that stream, by the id of the message or the key that the caller knows them by."""
        self._seen: set[str] = set()
        self._unnamed: set[tuple[str, ...]] = set()
        """The words of messages that had no id."""
        self._streamed: set[str] = set()
        """The streams that callers have named."""
        self._cited: set[e.Source] = set()
        self._owed = False
        """Something was said and its usage is not told."""

    def feed(self, message: Any, key: str | None = None) -> Iterable[e.Event]:
        """The events of a chunk or of a whole message; messages of users and of the system give none."""
        return self.chunk(message, key) if is_chunk(message) else self.whole(message)

    def chunk(self, message: Any, key: str | None = None) -> Iterable[e.Event]:
        """A piece of an answer; `key` names the stream where the caller knows it better than by the message's id."""
        fields = message if type(message) is dict else message.__dict__
        try:
            id, text, about = fields["id"], fields["content"], fields["response_metadata"]
            answer = self._answers[key or id or ""]
            if (
                type(text) is not str or not text or answer.text is None or (id and id not in self._seen)
                or fields["additional_kwargs"] or fields["tool_call_chunks"] or fields["usage_metadata"]
                or fields["chunk_position"] or (about and (len(about) > 1 or "model_provider" not in about))
            ):  # fmt: skip
                return self._chunk(fields, key)
        except KeyError:  # an answer that begins, or a message of another make
            return self._chunk(fields, key)
        return (e.TextDelta(part=answer.text, text=text),)  # the common case, at the least cost

    def whole(self, message: Any, *, beside: str | None = None, repeats: bool = False) -> Iterator[e.Event]:
        """A message that does not stream: an answer, unless it was seen, or the result of a tool.

        `beside` names the stream that it repeats, if that one was fed. `repeats`: it may be one that had no id and was told.
        """
        answer = self._answers.get(beside) if beside is not None else None
        if answer is not None and beside is not None:
            if not answer.counted:  # its pieces did not tell
                yield from self._told(answer, get(message, "usage_metadata"), get(message, "response_metadata"))
            yield from self.finish(beside)
        new = self._is_new(message, repeats=repeats) and beside not in self._streamed
        if new and get(message, "type") in TOOL:
            yield from self.calls.result(message)
        elif new and is_answer(message):
            yield from self._whole(message)

    def text(self, key: str, text: str) -> Iterator[e.Event]:
        """Text that comes without a message, in a part of its own for this key."""
        return self.piece(key, Piece("text", str.__str__(text)))  # a parser gives a subclass of str

    def piece(self, key: str, piece: Piece) -> Iterator[e.Event]:
        """A piece of the answer that this key names."""
        return self._piece(self._answer(key), piece)

    def call(self, key: str, chunk: Any) -> Iterator[e.Event]:
        """A piece of a call of the answer that this key names."""
        return self._call(self._answer(key), chunk)

    def told(self, key: str, usage: Any, about: Any) -> Iterator[e.Event]:
        """What the answer that this key names has used, and why it ended."""
        return self._told(self._answer(key), usage, about)

    def begin(self, key: str, id: str | None) -> None:
        """The stream of this key carries the message of this id."""
        self._streamed.add(key)
        if id:
            self._seen.add(id)

    def finish(self, key: str) -> Iterator[e.Event]:
        """The stream of this key has ended."""
        answer = self._answers.get(key)
        if answer is not None:
            for name in answer.names:
                del self._answers[name]
            yield from self._close(answer)

    def streamed(self, key: str) -> bool:
        """Whether something came under this key."""
        return key in self._streamed

    def history(self, message: Any) -> None:
        """A message of before: it is not told."""
        if id := get(message, "id"):
            self._seen.add(id)

    def documents(self, value: Any) -> Iterator[e.Event]:
        """The documents that a value is or lists, each once in a run."""
        found = dict.fromkeys(source_of(each) for each in documents_of(value))
        new = [source for source in found if source not in self._cited]
        self._cited.update(new)
        if new:
            yield e.Sources(new)

    def close(self) -> Iterator[e.Event]:
        """End what is open, and guess the usage that nobody told."""
        for key in list(self._answers):
            yield from self.finish(key)
        yield from self.calls.close()
        yield from self._settle()

    def _chunk(self, fields: dict[str, Any], key: str | None) -> Iterator[e.Event]:
        id = fields.get("id")
        if id:
            self._seen.add(id)
        if key:
            self._streamed.add(key)
        name = key or id or ""
        answer = self._answers.get(name) or (None if key else self._continued(name)) or self._answer(name)
        answer.is_message = not key
        for piece in pieces_of(fields.get("content"), fields.get("additional_kwargs")):
            yield from self._piece(answer, piece)
        for each in fields.get("tool_call_chunks") or ():
            yield from self._call(answer, each)
        yield from self._told(answer, fields.get("usage_metadata"), fields.get("response_metadata"))
        if fields.get("chunk_position") == "last":
            yield from self.finish(name)

    def _answer(self, name: str) -> Answer:
        found = self._answers.get(name)
        if found is None:
            found = self._answers[name] = Answer(name)
        return found

    def _continued(self, id: str) -> Answer | None:
        """The answer that began under the provider's id and goes on under this one of LangChain's."""
        if not id.startswith(_OWN_IDS):
            return None
        begun = [each for each in self._answers.values() if each.is_message and not each.names[-1].startswith(_OWN_IDS)]
        if len(begun) != 1:
            return None
        begun[0].names.append(id)
        self._answers[id] = begun[0]
        return begun[0]

    def _whole(self, message: Any) -> Iterator[e.Event]:
        answer = Answer()
        for piece in pieces_of(get(message, "content"), get(message, "additional_kwargs")):
            yield from self._piece(answer, piece)
        yield from self._end_reasoning(answer)
        yield from self._end_text(answer)
        for each in (*(get(message, "tool_calls") or ()), *(get(message, "invalid_tool_calls") or ())):
            call = self.calls.new(get(each, "id"))
            answer.calls.append(call)
            yield from call.begin(get(each, "name") or "")
            yield from call.give(get(each, "args"))
        yield from self._told(answer, get(message, "usage_metadata"), get(message, "response_metadata"))
        yield from self._close(answer)

    def _is_new(self, message: Any, *, repeats: bool = False) -> bool:
        """Note the message; False if it is known. One that had no id may come again, with or without."""
        id = get(message, "id")
        if id in self._seen:
            return False
        if id:
            self._seen.add(id)
        calls = [get(each, "id") or "" for each in get(message, "tool_calls") or ()]
        words = (get(message, "type"), get(message, "tool_call_id") or "", *calls, text_of(get(message, "content")))
        if words in self._unnamed and (id or repeats):
            self._unnamed.discard(words)
            return False
        if not id:
            self._unnamed.add(words)
        return True

    def _piece(self, answer: Answer, piece: Piece) -> Iterator[e.Event]:
        if piece.kind == "text":
            yield from self._say(answer, piece.value)
        elif piece.kind == "reasoning":
            yield from self._think(answer, piece.value, piece.place)
        elif piece.kind == "refusal":
            yield from self._end_text(answer)
            yield from self._say(answer, piece.value)
            answer.refused = True
        elif piece.kind == "source":
            yield e.Sources([piece.value])
        elif piece.kind == "call":
            if piece.value["id"] or piece.value["index"] in answer.at:
                yield from self._call(answer, piece.value)
        else:
            yield from self._result(answer, piece.value)

    def _say(self, answer: Answer, text: str) -> Iterator[e.Event]:
        if answer.text is None:
            yield from self._end_reasoning(answer)
            yield from self._begin(answer)
            answer.text = self._parts.text()
        yield e.TextDelta(part=answer.text, text=text)

    def _think(self, answer: Answer, text: str, place: Any) -> Iterator[e.Event]:
        if answer.reasoning is not None and place is not None and place != answer.place:
            yield from self._end_reasoning(answer)
        if answer.reasoning is None:
            yield from self._end_text(answer)
            yield from self._begin(answer)
            answer.reasoning, answer.place = self._parts.reasoning(), place
        yield e.ReasoningDelta(part=answer.reasoning, text=text)

    def _call(self, answer: Answer, chunk: Any) -> Iterator[e.Event]:
        """A piece of a call; one with an id that its index does not have yet begins another."""
        id, index, name = get(chunk, "id"), get(chunk, "index"), get(chunk, "name")
        call = answer.at.get(index)
        if call is None or (id and self.calls.of(id) is not call):
            yield from self._end_text(answer)
            yield from self._end_reasoning(answer)
            yield from self._begin(answer)
            call = answer.at[index] = self.calls.new(id)
            answer.calls.append(call)
        if name:
            yield from call.begin(name)
        args = get(chunk, "args")
        yield from call.more(args) if isinstance(args, str) else call.give(args) if args else ()

    def _result(self, answer: Answer, result: Result) -> Iterator[e.Event]:
        """The result of a tool that the provider ran."""
        yield from self._end_text(answer)
        call = self.calls.of(result.id)
        if call is None:
            call = self.calls.new(result.id)
            yield from call.begin(result.name)
        yield from call.give()
        output = result.output
        yield from call.end(shortened(output) if isinstance(output, str) else output, error=result.error)

    def _told(self, answer: Answer, usage: Any, about: Any) -> Iterator[e.Event]:
        if usage:
            read, written = get(usage, "input_tokens") or 0, get(usage, "output_tokens") or 0
            if read or written:
                self._owed, answer.counted = False, True
                yield self._parts.used(read, written)
        if not about:
            return
        answer.model = get(about, "model_name") or get(about, "model") or answer.model
        raw = _reason(about)
        if raw and not answer.finished:
            answer.finished = True
            reason = _REASONS.get(raw.lower(), "other")
            if raw == "completed" and any(not call.ended for call in answer.calls):
                reason = "tool_calls"
            if answer.refused and reason == "stop":
                reason = "refusal"
            yield e.Finish(reason=reason, raw=raw, model=answer.model)

    def _begin(self, answer: Answer) -> Iterator[e.Event]:
        """It says something. What an earlier answer owes is guessed first, lest the usage of this one hide it."""
        if answer.begun:
            return
        if self._owed and not any(each.begun for each in self._answers.values()):
            yield from self._settle()
        answer.begun = self._owed = True

    def _settle(self) -> Iterator[e.Event]:
        self._owed = False
        if (usage := self._parts.estimate()) is not None:
            yield usage

    def _close(self, answer: Answer) -> Iterator[e.Event]:
        yield from self._end_reasoning(answer)
        yield from self._end_text(answer)
        for call in answer.calls:
            if not call.ended:
                yield from call.give()

    def _end_text(self, answer: Answer) -> Iterator[e.Event]:
        part, answer.text = answer.text, None
        if part is not None:
            yield e.TextEnded(part=part)

    def _end_reasoning(self, answer: Answer) -> Iterator[e.Event]:
        part, answer.reasoning = answer.reasoning, None
        if part is not None:
            yield e.ReasoningEnded(part=part)


def _reason(about: Any) -> str | None:
    """Why a model ended, in the word of its provider."""
    incomplete = get(get(about, "incomplete_details"), "reason") if get(about, "incomplete_details") else None
    raw = incomplete or next(
        (
            found
            for name in ("finish_reason", "stop_reason", "stopReason", "done_reason")
            if (found := get(about, name))
        ),
        None,
    )
    status = get(about, "status")
    raw = raw or (status if status in ("completed", "incomplete") else None)
    return raw if isinstance(raw, str) else None
