"""What exceptions of providers' libraries mean. Nothing that a provider or a library said reaches the wire."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from langchain_openai import ChatOpenAI
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models import infer_model

from tidelog import blame
from tidelog import events as e
from tidelog.blame import error_of, retry_after, severity
from tidelog.errors import SENTENCES, SourceError

SECRET = "sk-secret"
REQUEST = httpx2.Request("POST", f"http://127.0.0.1/?key={SECRET}")


def answered(library: Any, status: int, body: object = None, **headers: str) -> Exception:
    """What the library raises for an answer of this status."""
    response = httpx2.Response(status, request=REQUEST, headers={k.replace("_", "-"): v for k, v in headers.items()})
    error: Exception = library.APIStatusError(SECRET, response=response, body=body or {"error": {"message": SECRET}})
    return error


def foreign(module: str, *names: str, **fields: Any) -> Exception:
    """An error of a library that is not installed: its classes, from the most special one on, and its fields."""
    kind: type[Exception] = Exception
    for name in reversed(names):
        kind = type(name, (kind,), {"__module__": module})
    error = kind(SECRET)
    error.__dict__.update(fields)
    return error


def caused(error: Exception, *causes: Exception) -> Exception:
    """The error, raised from the first cause, which was raised from the next."""
    link = error
    for cause in causes:
        link.__cause__ = link = cause
    return error


def told(code: str, message: str, *, again: bool = True, after: float | None = None) -> e.Error:
    return e.Error(code, message, again, after)


BY_STATUS = {
    400: told("provider_error", blame.REFUSED, again=False),
    401: told("provider_error", blame.KEY, again=False),
    402: told("provider_error", blame.CREDIT, again=False),
    403: told("provider_error", blame.KEY, again=False),
    404: told("provider_error", blame.UNKNOWN, again=False),
    408: told("timed_out", blame.SLOW),
    413: told("provider_error", blame.TOO_LONG, again=False),
    422: told("provider_error", blame.REFUSED, again=False),
    429: told("rate_limited", blame.BUSY),
    500: told("provider_error", blame.FAILED),
    502: told("provider_error", blame.FAILED),
    503: told("overloaded", blame.OVERLOADED),
    504: told("timed_out", blame.SLOW),
    529: told("overloaded", blame.OVERLOADED),
}


@pytest.mark.parametrize("status", BY_STATUS)
@pytest.mark.parametrize("library", [openai, anthropic], ids=["openai", "anthropic"])
def test_a_status(library: Any, status: int) -> None:
    assert error_of(answered(library, status)) == BY_STATUS[status]


@pytest.mark.parametrize("status", BY_STATUS)
def test_a_status_of_other_libraries(status: int) -> None:
    response = httpx2.Response(status, request=REQUEST)
    meta = {"HTTPStatusCode": status, "HTTPHeaders": {"retry-after": "3"}}
    for error in (
        httpx2.HTTPStatusError(SECRET, request=REQUEST, response=response),
        ModelHTTPError(status, "m", body={"message": SECRET}),
        foreign("aiohttp.client_exceptions", "ClientResponseError", status=status, request_info=object(), headers={}),
        foreign("google.genai.errors", "APIError", code=status, details={"m": SECRET}, response=response),
        foreign("google.api_core.exceptions", "GoogleAPICallError", code=status),
    ):
        assert error_of(error) == BY_STATUS[status], type(error)
    throttled = error_of(foreign("botocore.exceptions", "ClientError", response={"ResponseMetadata": meta}))
    assert (throttled.code, throttled.message) == (BY_STATUS[status].code, BY_STATUS[status].message)
    assert throttled.retry_after == (3 if status in (429, 500, 502, 503, 529) else None)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "7"}, 7),
        ({"retry_after": "0.5"}, 0.5),
        ({"retry_after_ms": "250", "retry_after": "9"}, 0.25),
        ({"retry_after_ms": "soon", "retry_after": "9"}, 9),
        ({"retry_after": formatdate(time.time() - 60, usegmt=True)}, 0),
        ({"retry_after": "-3"}, None),
        ({"retry_after": "nan"}, None),
        ({"retry_after": "when we are ready"}, None),
        ({"retry_after": "9" * 400}, None),
        ({}, None),
    ],
)
def test_when_to_ask_again(headers: dict[str, str], seconds: float | None) -> None:
    assert error_of(answered(openai, 429, **headers)) == told("rate_limited", blame.BUSY, after=seconds)


def test_when_to_ask_again_as_a_date() -> None:
    found = retry_after(answered(anthropic, 529, retry_after=formatdate(time.time() + 3600, usegmt=True)))
    assert found is not None
    assert 3000 < found <= 3600


OPEN_STREAM: dict[str, tuple[Exception, e.Error]] = {
    "overloaded": (
        answered(anthropic, 200, {"type": "error", "error": {"type": "overloaded_error", "message": SECRET}}), BY_STATUS[529],
    ),
    "a server error": (openai.APIError(SECRET, REQUEST, body={"type": "server_error", "code": None}), BY_STATUS[500]),
    "too often": (openai.APIError(SECRET, REQUEST, body={"code": "rate_limit_exceeded"}), BY_STATUS[429]),
    "a word that nobody knows": (openai.APIError(SECRET, REQUEST, body={"type": "odd"}), BY_STATUS[500]),
    "no credit, said as 429": (answered(openai, 429, {"code": "insufficient_quota"}), BY_STATUS[402]),
    "too long, said as 400": (answered(openai, 400, {"code": "context_length_exceeded"}), BY_STATUS[413]),
}  # fmt: skip


@pytest.mark.parametrize("name", OPEN_STREAM)
def test_a_word_for_an_error(name: str) -> None:
    error, wanted = OPEN_STREAM[name]
    assert error_of(error) == wanted


UNREACHABLE, CUT = told("provider_error", blame.UNREACHABLE), told("provider_error", blame.CUT)
SLOW, NO_SERVER = told("timed_out", blame.SLOW), told("provider_error", blame.NO_SERVER)
NO_ANSWER: dict[str, tuple[Exception, e.Error]] = {
    "openai": (openai.APIConnectionError(request=REQUEST), UNREACHABLE),
    "openai, refused": (caused(openai.APIConnectionError(request=REQUEST), httpx2.ConnectError(SECRET)), UNREACHABLE),
    "openai, cut": (caused(openai.APIConnectionError(request=REQUEST), httpx2.ReadError(SECRET)), CUT),
    "openai, late": (openai.APITimeoutError(request=REQUEST), SLOW),
    "anthropic": (anthropic.APIConnectionError(request=REQUEST), UNREACHABLE),
    "anthropic, late": (anthropic.APITimeoutError(request=REQUEST), SLOW),
    "httpx2": (httpx2.ConnectError(SECRET), UNREACHABLE),
    "httpx2, cut": (httpx2.RemoteProtocolError(SECRET), CUT),
    "httpx2, late": (httpx2.ReadTimeout(SECRET), SLOW),
    "httpx": (foreign("httpx", "ConnectError", "NetworkError", "TransportError"), UNREACHABLE),
    "aiohttp": (foreign("aiohttp.client_exceptions", "ClientConnectorError", "ClientConnectionError"), UNREACHABLE),
    "aiohttp, cut": (foreign("aiohttp.client_exceptions", "ClientPayloadError"), CUT),
    "botocore": (foreign("botocore.exceptions", "EndpointConnectionError", "ConnectionError"), UNREACHABLE),
    "botocore, late": (foreign("botocore.exceptions", "ReadTimeoutError", "HTTPClientError"), SLOW),
    "requests": (foreign("requests.exceptions", "ConnectionError"), UNREACHABLE),
    "a socket of nobody's": (ConnectionRefusedError(SECRET), NO_SERVER),
    "a time limit of the application's": (TimeoutError(SECRET), told("timed_out", SENTENCES["timed_out"])),
    "an application's class of a provider's name": (foreign("app", "APIConnectionError"), e.Error.of("internal")),
    "a host that does not exist": (socket.gaierror(SECRET), e.Error.of("internal")),
}


@pytest.mark.parametrize("name", NO_ANSWER)
def test_no_answer(name: str) -> None:
    error, wanted = NO_ANSWER[name]
    assert error_of(error) == wanted


def test_causes_are_followed_but_not_what_happened_meanwhile() -> None:
    inner = answered(openai, 429, retry_after="7")
    assert error_of(caused(RuntimeError(SECRET), ValueError(SECRET), inner)).code == "rate_limited"
    assert error_of(caused(SourceError("Mine."), inner)).message == "Mine."
    assert error_of(caused(RuntimeError(SECRET), SourceError("Mine."))).message == "Mine."
    meanwhile = RuntimeError(SECRET)
    meanwhile.__context__ = inner
    assert error_of(meanwhile) == e.Error.of("internal")
    circle = RuntimeError(SECRET)
    caused(circle, ValueError(SECRET), circle)
    assert error_of(circle) == e.Error.of("internal")


class Odd(Exception):
    """Its fields raise, as `httpx2.RequestError.request` does."""

    @property
    def response(self) -> object:
        raise RuntimeError(SECRET)

    status_code = "429"
    body = 3


@pytest.mark.parametrize(
    "error",
    [Odd(SECRET), foreign("app", "Missing", status_code=404), foreign("app", "Coded", code=429), KeyError(SECRET)],
)
def test_other_shapes_are_our_own_fault(error: Exception) -> None:
    assert error_of(error) == e.Error.of("internal")


def test_the_application_decides_whether_asking_again_may_help() -> None:
    assert error_of(SourceError("Never.", retryable=False)) == told("provider_error", "Never.", again=False)
    assert error_of(SourceError("Soon.", code="too_large", retryable=True)) == told("too_large", "Soon.")


def test_no_word_of_a_provider_is_passed_on() -> None:
    cases = [error for error, _ in (*OPEN_STREAM.values(), *NO_ANSWER.values())]
    cases += [answered(library, status) for library in (openai, anthropic) for status in BY_STATUS]
    assert len(cases) > 40
    assert not [error for error in cases if SECRET in error_of(error).message]


def openai_keyless() -> None:
    openai.AsyncOpenAI()


def anthropic_keyless() -> None:
    anthropic.Anthropic().messages.create(model="x", max_tokens=1, messages=[{"role": "user", "content": SECRET}])


def langchain_keyless() -> None:
    ChatOpenAI(model="x")


def pydantic_ai_keyless() -> None:
    infer_model("anthropic:claude-sonnet-5-5")


@pytest.mark.parametrize("ask", [openai_keyless, anthropic_keyless, langchain_keyless, pydantic_ai_keyless])
def test_a_library_without_a_key(ask: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("OPENAI_", "ANTHROPIC_"))]:
        monkeypatch.delenv(name)
    with pytest.raises(Exception) as raised:
        ask()
    assert error_of(raised.value) == told("provider_error", blame.NO_KEY, again=False)
    assert severity(raised.value) == logging.WARNING


def test_a_mistake_in_the_application_is_no_missing_key() -> None:
    with pytest.raises(TypeError) as raised:
        openai.AsyncOpenAI(api_keys="x")  # type: ignore[call-arg]
    assert error_of(raised.value) == e.Error.of("internal")
    with pytest.raises(KeyError) as missing:
        _ = {}["OPENAI_API_KEY"]
    assert error_of(missing.value) == e.Error.of("internal")


def test_how_loudly_it_is_logged() -> None:
    """A traceback is worth nothing where the application chose the words."""
    assert severity(SourceError("Mine.")) == logging.INFO
    assert severity(answered(openai, 500)) == logging.WARNING
    assert severity(ValueError()) == logging.ERROR
