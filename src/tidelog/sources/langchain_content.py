"""What a LangChain message says: its content, a string or blocks of a dozen providers' shapes, as pieces of one shape.

Raw blocks are read, and LangChain's own standard ones (`output_version="v1"`); its property `content_blocks`, which translates
the first into the second, costs more than a stream of tokens may. Calls of the application's tools are told elsewhere in a
message: their blocks are passed over. So are blocks that nobody knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, NamedTuple

from tidelog import events as e
from tidelog.sources.langchain_values import get, text_of

Kind = Literal["text", "reasoning", "refusal", "source", "call", "result"]


class Piece(NamedTuple):
    """A piece of an answer. `value` is text, a source, a piece of a call, or a call's `Result`."""

    kind: Kind
    value: Any
    place: Any = None
    """For reasoning: which of several trains of thought."""


class Result(NamedTuple):
    """What a tool gave that the provider ran."""

    id: str | None
    name: str
    output: Any
    error: str | None = None


def pieces_of(content: Any, more: Any = None) -> Iterator[Piece]:
    """The pieces of a message's `content` and of its `additional_kwargs`."""
    if more:
        yield from _aside(more)
    if isinstance(content, str):
        if content:
            yield Piece("text", content)
        return
    for block in content or ():
        if isinstance(block, str):
            yield from pieces_of(block)
        elif (read := _reader(get(block, "type"))) is not None:
            yield from read(block)


def _aside(more: Any) -> Iterator[Piece]:
    """What providers' packages put beside the content."""
    reasoning = get(more, "reasoning_content") or get(more, "reasoning") or get(more, "thinking")
    if isinstance(reasoning, str):
        yield Piece("reasoning", reasoning)
    elif reasoning:
        yield from _reasoning(reasoning)
    if refusal := get(more, "refusal"):
        yield Piece("refusal", refusal)


def _reader(kind: Any) -> Callable[[Any], Iterator[Piece]] | None:
    if not isinstance(kind, str):
        return None
    return _READERS.get(kind) or (_tool_result if kind.endswith("_tool_result") else None)


def _text(block: Any) -> Iterator[Piece]:
    text = get(block, "text")
    if isinstance(text, str) and text:
        yield Piece("text", text)
    for each in (*(get(block, "citations") or ()), *(get(block, "annotations") or ())):
        if (source := _cited(each)) is not None:
            yield Piece("source", source)


def _reasoning(block: Any) -> Iterator[Piece]:
    """One text, or OpenAI's summary in parts."""
    index = get(block, "index")
    told = get(block, "reasoning") or get(block, "thinking") or get(block, "text") or get(block, "reasoning_content")
    text = told if isinstance(told, str) else get(told, "text") if told else None
    if isinstance(text, str) and text:
        yield Piece("reasoning", text, index)
    for each in get(block, "summary") or ():
        if text := get(each, "text"):
            yield Piece("reasoning", text, (index, get(each, "index")))


def _refusal(block: Any) -> Iterator[Piece]:
    if text := get(block, "refusal"):
        yield Piece("refusal", text)


def _server_call(block: Any) -> Iterator[Piece]:
    """A call of a tool that the provider runs. Its arguments come with it, or piece by piece at the same index."""
    args = get(block, "args") or get(block, "input")
    yield Piece("call", {"id": get(block, "id"), "name": get(block, "name"), "args": args, "index": _index(block)})


def _server_args(block: Any) -> Iterator[Piece]:
    """A piece of arguments: the call at this index takes it, and if there is none, it belongs to the application's own."""
    if text := get(block, "partial_json"):
        yield Piece("call", {"id": None, "name": None, "args": text, "index": _index(block)})


def _server_result(block: Any) -> Iterator[Piece]:
    failed = get(block, "status") == "error"
    output = get(block, "output")
    yield Piece(
        "result", Result(get(block, "tool_call_id"), "", output, (text_of(output) or "failed") if failed else None)
    )


def _tool_result(block: Any) -> Iterator[Piece]:
    """Anthropic's: `web_search_tool_result` and its like."""
    content = get(block, "content")
    error = get(content, "error_code") if isinstance(content, dict) else None
    name = get(block, "type").removesuffix("_tool_result")
    yield Piece("result", Result(get(block, "tool_use_id"), name, _readable(content), error))


def _done_call(block: Any) -> Iterator[Piece]:
    """OpenAI's, which come when all is done: `web_search_call` and its like."""
    id, name = get(block, "id"), get(block, "name") or get(block, "type").removesuffix("_call")
    asked = get(block, "action") or get(block, "queries") or get(block, "code") or get(block, "arguments") or {}
    yield Piece("call", {"id": id, "name": name, "args": asked, "index": _index(block)})
    found = get(block, "results") or get(block, "outputs") or get(block, "output")
    failed = get(block, "error") or (get(block, "status") == "failed" and "failed")
    yield Piece("result", Result(id, name, found, text_of(failed) or "failed" if failed else None))


def _non_standard(block: Any) -> Iterator[Piece]:
    value = get(block, "value")
    return pieces_of([value]) if value and get(value, "type") != "non_standard" else iter(())


def _cited(citation: Any) -> e.Source | None:
    """A source is known by its address, else by its document."""
    if get(citation, "type") == "non_standard_annotation":
        return None
    address = get(citation, "url") or get(citation, "source")
    title = get(citation, "title") or get(citation, "document_title") or get(citation, "filename")
    place = get(citation, "document_index")
    id = address or get(citation, "file_id") or title or (f"document-{place + 1}" if isinstance(place, int) else None)
    if not id:
        return None
    url = address if isinstance(address, str) and "://" in address else None
    return e.Source(str(id), str(title or id), url=url, quote=get(citation, "cited_text") or None)


def _readable(value: Any) -> Any:
    """Without encrypted fields, which are large and read by the provider alone."""
    if isinstance(value, dict):
        return {key: _readable(each) for key, each in value.items() if not str(key).startswith("encrypted_")}
    return [_readable(each) for each in value] if isinstance(value, list) else value


def _index(block: Any) -> Any:
    """Calls of the provider's tools have places of their own, beside those of the application's."""
    return "server", get(block, "index")


_READERS: Final[dict[str, Callable[[Any], Iterator[Piece]]]] = {
    **dict.fromkeys(("text", "text_delta", "output_text"), _text),
    **dict.fromkeys(("reasoning", "thinking", "thinking_delta", "reasoning_content"), _reasoning),
    "refusal": _refusal,
    **dict.fromkeys(("server_tool_use", "server_tool_call", "server_tool_call_chunk"), _server_call),
    "input_json_delta": _server_args,
    "server_tool_result": _server_result,
    **dict.fromkeys(
        ("web_search_call", "file_search_call", "code_interpreter_call", "computer_call", "mcp_call"), _done_call
    ),
    "non_standard": _non_standard,
}
