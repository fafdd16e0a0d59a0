"""What went wrong with a model's server: told in sentences that say what to do, and that hold no key and no prompt."""

from __future__ import annotations

import json
import logging
from typing import Any, Final

import httpx2

from tidelog import SourceError
from tidelog.apps.model_choice import Choice

log = logging.getLogger("tidelog")

MAX_BODY: Final = 64 * 1024
"""Bytes of an error's body that are read."""
LOGGED: Final = 500
"""Characters of it that are logged."""


class Refused(httpx2.HTTPStatusError):
    """An answer that is an error. tidelog knows by its status and `body` which code it means."""

    def __init__(self, response: httpx2.Response, body: Any) -> None:
        super().__init__(f"status {response.status_code}", request=response.request, response=response)
        self.body = body


async def refusal(response: httpx2.Response, choice: Choice, name: str) -> Exception:
    """The error that this answer means. Its own words, which may hold a prompt, go to the log alone."""
    text = await _text(response)
    body = _json(text)
    status = response.status_code
    log.warning("the model server at %s says %d: %s", choice.place, status, text[:LOGGED])
    if status in (401, 403):
        return SourceError(_key_refused(choice), retryable=False)
    if status == 404 and body is not None:
        return SourceError(f"{choice.place} knows no model {name}: choose another with --model.", retryable=False)
    if status in (404, 405) or status < 400:
        words = f"{choice.place} is no model server, or not at {choice.url}: check {_variable(choice, 'BASE_URL')}."
        return SourceError(words, retryable=False)
    return Refused(response, body)


def unreached(error: httpx2.TransportError, choice: Choice, *, limit: float) -> Exception:
    """The error of a server that gave no answer; one that was cut is told by tidelog itself."""
    if isinstance(error, httpx2.TimeoutException):
        return SourceError(f"The model server at {choice.place} did not answer within {limit:g} s.", code="timed_out")
    if isinstance(error, httpx2.ConnectError | httpx2.ProxyError):
        return SourceError(f"The model server at {choice.place} cannot be reached: is it running?")
    return error


def no_stream(choice: Choice) -> SourceError:
    """A server that answers, but not with a stream of events."""
    return SourceError(f"The model server at {choice.place} does not stream its answers.", retryable=False)


def unreadable(choice: Choice) -> SourceError:
    """A server that sends what is no event."""
    return SourceError(f"The model server at {choice.place} sent what cannot be read.")


def cut(choice: Choice) -> SourceError:
    """An answer that ended before the model had said its last word."""
    return SourceError(f"The model server at {choice.place} ended its answer too early.")


def _key_refused(choice: Choice) -> str:
    variable = _variable(choice, "API_KEY")
    if choice.key is None:
        return f"{choice.place} wants a key: set {variable}."
    return f"{choice.place} refused the key: check {variable}."


def _variable(choice: Choice, what: str) -> str:
    return f"{'ANTHROPIC' if choice.provider == 'anthropic' else 'OPENAI'}_{what}"


async def _text(response: httpx2.Response) -> str:
    """The beginning of the body, as far as it comes."""
    found = bytearray()
    try:
        async for piece in response.aiter_bytes():
            found += piece
            if len(found) >= MAX_BODY:
                break
    except httpx2.TransportError:
        pass
    return bytes(found[:MAX_BODY]).decode("utf-8", "replace")


def _json(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
