"""The openai package: chat completions and Responses, raw or from its `.stream()`, and whole answers.

Chunks of compatible servers (vLLM, DeepSeek, Ollama, Azure …) are the same classes with fields that are not in the documents.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from tidelog import events as e
from tidelog.parts import Parts
from tidelog.sources.openai_chat import Chat
from tidelog.sources.openai_responses import Responses
from tidelog.sources.openai_shapes import Calls, Cited, fields, get

_CHUNKS: Final = re.compile(
    r"openai\.types\.chat\.(chat_completion(_chunk)?\.ChatCompletion(Chunk)?|parsed_chat_completion\.ParsedChatCompletion)"
    r"|openai\.types\.completion\.Completion"
    r"|openai\.lib\.streaming\.chat\._events\.\w+Event"
    r"|openai\.(types|lib\.streaming)\.responses\.\w+\.Response\w*Event"
    r"|openai\.types\.responses\.(response\.Response|parsed_response\.ParsedResponse)"
)
"""Module and name of the classes that are chunks. All others are data: embeddings, files, a model's parts."""


class OpenAI:
    """Implements `seams.LibraryTranslator` for instances and dicts. Streams may follow each other or run at once.

    What `client.chat.completions.stream()` derives from a chunk counts only where that chunk was not yielded.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        calls, cited = Calls(parts), Cited()
        self._chat = Chat(parts, calls=calls, cited=cited)
        self._responses = Responses(parts, calls=calls, cited=cited)

    @staticmethod
    def takes(kind: type) -> bool:
        """Chunks of both APIs, and the answers that they add up to."""
        return _CHUNKS.fullmatch(f"{kind.__module__}.{kind.__name__}") is not None

    def feed(self, chunk: Any) -> Iterable[e.Event]:
        """The events of this chunk. Raises `SourceError` for one that tells of an error; kinds that are unknown give nothing."""
        kind = fields(chunk).get("type")
        if kind is None:
            whole = get(chunk, "object") == "response"
            return self._responses.whole(chunk) if whole else self._chat.feed(chunk)
        if kind == "error" or kind.startswith("response."):
            return self._responses.feed(chunk)
        return self._chat.event(chunk)

    def end(self) -> Iterable[e.Event]:
        """What is open is ended, and what no usage was told for is estimated."""
        yield from self._chat.end()
        yield from self._responses.end()
        if (usage := self._parts.estimate()) is not None:
            yield usage
