"""The attached language model: asked over HTTP, heard as it speaks, let go of as soon as nobody needs it.

The tricky rule first. A refusal must be a status, so nothing may be told before the server has answered; yet a server that
thinks for long must not hold back the sources. So the request is on its way when `ask` is entered, and has HOLD seconds
to be refused there; later, the failure comes in the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, cast
from urllib.parse import urlsplit

import httpx2

from tidelog import SourceError, Tidelog
from tidelog.apps.model_choice import Choice
from tidelog.apps.model_errors import cut, no_stream, refusal, unreached, unreadable
from tidelog.apps.model_wire import AnthropicWire, Asked, Chunk, Hearing, OpenAIWire, Wire
from tidelog.apps.tools import Call

log = logging.getLogger("tidelog")

HOLD: Final = 2.0
"""Seconds for which nothing is told while a server has not said whether it will answer."""
CONNECT: Final = 5.0
"""Seconds for a connection. How long a model may think is the run's business: its limits end it."""
FIND: Final = 2.0
"""Seconds in which a server must say which models it has, when the application starts."""
DRAIN: Final = 0.5
"""Seconds for the end of an answer whose last event has come, so that its connection can be used again."""
CONNECTIONS: Final = 512
MAX_LIST: Final = 1024 * 1024
"""Bytes of a list of models."""

_NO_ANSWERS: Final = ("embed", "rerank", "whisper", "tts", "bge-", "moderation")
"""In the names of models that do not chat."""


class Answer:
    """One answer as it comes. Its chunks are read once."""

    def __init__(self, model: Model, sending: asyncio.Task[httpx2.Response], hearing: Hearing) -> None:
        self._model = model
        self._sending = sending
        self._hearing = hearing

    @property
    def heard(self) -> Hearing:
        """What was heard so far."""
        return self._hearing

    @property
    def calls(self) -> list[Call]:
        """The tools that the model called, once the chunks are read."""
        return self._hearing.calls

    def told(self, tide: Tidelog) -> Any:
        """The chunks for a run. Raises what `ask` raises, and `SourceError` for an answer that breaks off."""
        return self._model.wire.translated(tide, self._chunks())

    async def _chunks(self) -> AsyncIterator[Chunk]:
        response, choice, last = await self._sending, self._model.choice, self._model.wire.last
        over = False
        async with contextlib.aclosing(_events(response, choice)) as events:
            async for data in events:
                if data == last:
                    over = True
                    break
                chunk = _chunk(data, choice)
                self._hearing.take(chunk)
                yield chunk
                if chunk.get("type") == last:
                    break
            if not over and not self._hearing.whole:
                raise cut(choice)
            with contextlib.suppress(TimeoutError, httpx2.TransportError, SourceError):
                async with asyncio.timeout(DRAIN):
                    async for _ in events:
                        pass


class Model:
    """The model of a choice. `lifespan` opens its connections; ask it within."""

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self.wire: Wire = (
            AnthropicWire() if choice.provider == "anthropic" else OpenAIWire(own=choice.provider == "openai")
        )
        self._name = choice.name
        self._client: httpx2.AsyncClient | None = None

    @property
    def name(self) -> str | None:
        """The model's name; None as long as its server has not told it."""
        return self._name

    @property
    def described(self) -> dict[str, str | None]:
        """For `/about`."""
        return {"name": self.name, "provider": self.choice.provider, "place": self.choice.place}

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Connections from here to the end of the block. A server that does not answer yet is no reason not to start."""
        async with self._opened() as self._client:
            try:
                async with asyncio.timeout(FIND):
                    await self._known_name()
            except (TimeoutError, SourceError, httpx2.HTTPError) as error:
                log.warning("%s", str(error) or f"the model server at {self.choice.place} does not answer yet")
            yield

    @asynccontextmanager
    async def ask(self, asked: Asked, *, used: set[str] | None = None) -> AsyncIterator[Answer]:
        """Ask; the connection is closed at the end of the block. `used` are the ids of the calls of this run so far.

        Raises `SourceError` and errors of httpx2 that tidelog knows, where the server refuses within HOLD seconds; later,
        reading the answer raises them.
        """
        sending = asyncio.create_task(self._send(asked))
        try:
            await asyncio.wait({sending}, timeout=HOLD)
            if sending.done():
                sending.result()
            yield Answer(self, sending, self.wire.hearing(used if used is not None else set()))
        finally:
            await _let_go(sending)

    async def _send(self, asked: Asked) -> httpx2.Response:
        """The answer, its body unread. Raises for every answer but a stream."""
        name = await self._known_name()
        response = await self._request("POST", self.wire.path, self.wire.body(name, asked))
        try:
            if response.status_code != 200:
                raise await refusal(response, self.choice, name)
            if not response.headers.get("content-type", "").lower().startswith("text/event-stream"):
                raise no_stream(self.choice)
        except BaseException:
            await response.aclose()
            raise
        return response

    async def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx2.Response:
        if self._client is None:
            raise SourceError("The model is asked before the application has started.")
        headers = {"Accept": "text/event-stream" if body else "application/json", **self.wire.headers(self.choice.key)}
        request = self._client.build_request(method, self.choice.url + path, json=body, headers=headers)
        try:
            return await self._client.send(request, stream=True)
        except httpx2.TransportError as error:
            raise unreached(error, self.choice, limit=CONNECT) from error

    async def _known_name(self) -> str:
        """The name to ask for: the one that was chosen, else the first that the server lists."""
        if self._name is None:
            response = await self._request("GET", "/models")
            try:
                if response.status_code != 200:
                    raise await refusal(response, self.choice, "of any name")
                self._name = first_name(await _read(response, MAX_LIST), self.choice)
            finally:
                await response.aclose()
        return self._name

    def _opened(self) -> httpx2.AsyncClient:
        near = urlsplit(self.choice.url).hostname in ("127.0.0.1", "localhost", "::1")
        return httpx2.AsyncClient(
            timeout=httpx2.Timeout(CONNECT, read=None),
            limits=httpx2.Limits(max_connections=CONNECTIONS),
            auth=self.choice.login,
            trust_env=not near,  # a proxy of the environment knows nothing of this machine
        )


def first_name(listed: bytes, choice: Choice) -> str:
    """The first model of a list that chats. Raises `SourceError` where there is none."""
    try:
        names = [str(one["id"]) for one in json.loads(listed)["data"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise unreadable(choice) from None
    chatting = [name for name in names if not any(word in name.lower() for word in _NO_ANSWERS)]
    if not chatting:
        raise SourceError(f"{choice.place} has no model loaded: load one, or name it with --model.", retryable=False)
    return chatting[0]


async def _events(response: httpx2.Response, choice: Choice) -> AsyncGenerator[str, None]:
    """The data of each event. Raises `SourceError` for one that is too large."""
    try:
        source = cast(AsyncGenerator[httpx2.ServerSentEvent, None], aiter(httpx2.EventSource(response)))
        async with contextlib.aclosing(source) as events:
            async for event in events:
                yield event.data
    except httpx2.SSEError as error:
        raise unreadable(choice) from error


def _chunk(data: str, choice: Choice) -> Chunk:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise unreadable(choice)
    return found


async def _read(response: httpx2.Response, limit: int) -> bytes:
    found = bytearray()
    async for piece in response.aiter_bytes():
        found += piece
        if len(found) > limit:
            break
    return bytes(found)


async def _let_go(sending: asyncio.Task[httpx2.Response]) -> None:
    """Close the connection, however far it has come."""
    if not sending.done():
        sending.cancel()
        await asyncio.wait({sending})
    if not sending.cancelled() and sending.exception() is None:
        await sending.result().aclose()
