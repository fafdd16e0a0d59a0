"""Which error code an exception means, and which words of it users may read.

Providers' libraries are known by the shape of their errors and by the package that these come from; none is imported. Nothing
of a provider's own words is passed on: they may hold the key, the prompt, or both.
"""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

from tidelog.errors import TidelogError
from tidelog.events import Error

CAUSES: Final = 8
"""How far `__cause__` is followed: libraries wrap each other's errors."""

BUSY: Final = "The provider is busy."
OVERLOADED: Final = "The model server is overloaded."
KEY: Final = "The provider refused the key."
NO_KEY: Final = "The server has no key for the model's provider."
CREDIT: Final = "The provider says that the account has no credit left."
REFUSED: Final = "The provider refused the request."
UNKNOWN: Final = "The provider knows no such model or address."
TOO_LONG: Final = "The request is too large for the model."
FAILED: Final = "The provider failed."
SLOW: Final = "The model server took too long."
UNREACHABLE: Final = "The model server cannot be reached."
CUT: Final = "The connection to the model server was cut."
NO_SERVER: Final = "A server that the run needs cannot be reached."

_PACKAGES: Final = frozenset(
    {
        "openai",
        "anthropic",
        "httpx",
        "httpx2",
        "httpcore",
        "httpcore2",
        "aiohttp",
        "botocore",
        "requests",
        "urllib3",
        "google",
    }
)
"""Whose classes are told by their names."""
_CUTS: Final = frozenset(
    {
        "ReadError", "WriteError", "CloseError", "RemoteProtocolError", "ServerDisconnectedError", "ClientPayloadError",
        "ChunkedEncodingError", "ConnectionClosedError", "ResponseStreamingError", "IncompleteReadError",
    }
)  # fmt: skip
_CONNECTIONS: Final = frozenset(
    {
        "APIConnectionError", "TransportError", "NetworkError", "ClientConnectionError", "ConnectionError",
        "HTTPClientError", "MaxRetryError", "NewConnectionError",
    }
)  # fmt: skip
_TYPES: Final = {
    "rate_limit_error": 429, "rate_limit_exceeded": 429, "requests": 429, "tokens": 429, "overloaded_error": 529,
    "insufficient_quota": 402, "billing_error": 402, "authentication_error": 401, "invalid_api_key": 401,
    "permission_error": 403, "invalid_request_error": 400, "not_found_error": 404, "model_not_found": 404,
    "request_too_large": 413, "context_length_exceeded": 413, "timeout_error": 504, "api_error": 500, "server_error": 500,
}  # fmt: skip
"""The status that a provider's own word for an error stands for: in an open stream it comes without one."""
_TELLING: Final = frozenset({"insufficient_quota", "billing_error", "context_length_exceeded", "model_not_found"})
"""Words that say more than the status that they come with."""
_KEYLESS: Final = re.compile(r"api_key|_API_KEY|authentication method")
"""In the words of libraries that were given no key: they raise this before they ask anybody, in classes that mean much else."""
_OWN: Final = {
    404: "not_found", 413: "too_large", 429: "rate_limited", 502: "provider_error", 503: "overloaded", 504: "timed_out",
}  # fmt: skip


def error_of(error: BaseException) -> Error:
    """What the wire may know of an exception: words that the application chose, or a sentence of ours. Never raises."""
    for link in _chain(error):
        found = _chosen(link) or _of_provider(link) or _of_connection(link) or _of_setup(link)
        if found is not None:
            return found
    return Error.of("internal")


def severity(error: BaseException) -> int:
    """How loudly to log it: INFO where the application chose the words, so that there is nothing to find out."""
    if error_of(error).code in ("internal", "invalid_event", "store_unavailable"):
        return logging.ERROR
    return logging.INFO if _chosen(error) is not None else logging.WARNING


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was explicitly raised from: an error that happened to be handled meanwhile is no cause."""
    link: BaseException | None = error
    for _ in range(CAUSES):
        if link is None:
            return
        yield link
        link = link.__cause__


def _chosen(error: BaseException) -> Error | None:
    """For our own errors, and for an HTTPException: its words are meant to be read."""
    if isinstance(error, TidelogError):
        own = error.code not in ("internal", "store_unavailable", "invalid_event")
        told = Error.of(error.code, error.message if own else None, retry_after=error.retry_after)
        return Error(told.code, told.message, error.retryable, told.retry_after)
    status, detail = _get(error, "status_code"), _get(error, "detail")
    if isinstance(status, int) and isinstance(detail, str):
        return Error.of(_OWN.get(status, "invalid_request" if status < 500 else "internal"), detail)
    return None


def _of_provider(error: BaseException) -> Error | None:
    """For an answer that a provider gave: a status, or in an open stream its own word for one."""
    status, word = _status(error), _word(error)
    if word in _TYPES and (status is None or status < 400 or word in _TELLING):
        status = _TYPES[word]
    if status is None and word and _names(error) & {"APIError"}:
        status = 500
    return _by_status(status, error) if status is not None and 400 <= status <= 599 else None


def _by_status(status: int, error: BaseException) -> Error:
    after = retry_after(error)
    if status == 429:
        return Error.of("rate_limited", BUSY, retry_after=after)
    if status in (503, 529):
        return Error.of("overloaded", OVERLOADED, retry_after=after)
    if status in (408, 504):
        return Error.of("timed_out", SLOW)
    if status >= 500:
        return Error.of("provider_error", FAILED, retry_after=after)
    words = {401: KEY, 402: CREDIT, 403: KEY, 404: UNKNOWN, 413: TOO_LONG}.get(status, REFUSED)
    return Error("provider_error", words)  # asking again as it is will not help


def _of_connection(error: BaseException) -> Error | None:
    """For a provider that gave no answer."""
    names = _names(error)
    if any("Timeout" in name for name in names):
        return Error.of("timed_out", SLOW)
    if isinstance(error, TimeoutError):
        return Error.of("timed_out")
    if names & (_CUTS | _CONNECTIONS):
        cut = any(_names(link) & _CUTS for link in _chain(error))
        return Error.of("provider_error", CUT if cut else UNREACHABLE)
    return Error.of("provider_error", NO_SERVER) if isinstance(error, ConnectionError) else None


def _of_setup(error: BaseException) -> Error | None:
    """For a library that was not told all that it needs. Its words are read, and never passed on."""
    raised_by = _origin(error)
    if raised_by in _PACKAGES | {"pydantic_ai"} and _KEYLESS.search(_words(error)):
        return Error("provider_error", NO_KEY)
    return None


def _origin(error: BaseException) -> str:
    """The package whose code raised it: Anthropic's library says with a plain TypeError that it has no key."""
    frame, trace = None, error.__traceback__
    while trace is not None:
        frame, trace = trace.tb_frame, trace.tb_next
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] if frame is not None else ""


def _words(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return ""


def retry_after(error: BaseException) -> float | None:
    """Seconds after which the provider wants to be asked again: `retry-after-ms`, or `Retry-After` as a number or a date."""
    headers = _headers(error)
    milliseconds = _number(_header(headers, "retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = _header(headers, "retry-after")
    seconds = _number(text)
    return seconds if seconds is not None or text is None else _until(text)


def _until(text: str) -> float | None:
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _status(error: BaseException) -> int | None:
    """The HTTP status that a provider's library tells. An error of another shape may have such a field by chance."""
    response = _get(error, "response")
    if isinstance(response, Mapping):  # botocore
        meta = response.get("ResponseMetadata")
        return _int(meta.get("HTTPStatusCode")) if isinstance(meta, Mapping) else None
    if (status := _int(_get(error, "status_code"))) is not None:
        return status if response is not None or _has_any(error, "body", "headers") else None
    if (status := _int(_get(response, "status_code"))) is not None:  # httpx, requests
        return status
    if _has_any(error, "request_info"):  # aiohttp
        return _int(_get(error, "status"))
    if _package(type(error)) == "google" or (response is not None and _has_any(error, "details")):
        return _int(_get(error, "code"))
    return None


def _word(error: BaseException) -> str | None:
    """What a provider calls the error: `type` or `code` of its JSON, which OpenAI unwraps and Anthropic does not."""
    body = _get(error, "body")
    if not isinstance(body, Mapping):
        return None
    inner = body.get("error")
    told = inner if isinstance(inner, Mapping) else body
    words = [told.get("code"), told.get("type")]
    found = [word for word in words if isinstance(word, str)]
    return next((word for word in found if word in _TYPES), found[0] if found else "error")


def _headers(error: BaseException) -> Any:
    response = _get(error, "response")
    if isinstance(response, Mapping):
        meta = response.get("ResponseMetadata")
        return meta.get("HTTPHeaders") if isinstance(meta, Mapping) else None
    return _get(response, "headers") or _get(error, "headers")


def _header(headers: Any, name: str) -> str | None:
    if not isinstance(headers, Mapping):
        return None
    value = headers.get(name) or headers.get(name.title())
    return value if isinstance(value, str) else None


def _names(error: BaseException) -> set[str]:
    """The names of the error's classes that come from a library that we know."""
    return {kind.__name__ for kind in type(error).__mro__ if _package(kind) in _PACKAGES}


def _package(kind: type) -> str:
    return kind.__module__.partition(".")[0]


def _has_any(error: BaseException, *names: str) -> bool:
    return any(_get(error, name) is not None for name in names)


def _int(value: Any) -> int | None:
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _get(owner: object, name: str) -> Any:
    """The attribute, or None: on a foreign error even looking may raise."""
    try:
        return getattr(owner, name, None)
    except Exception:
        return None
