"""Requests to a tidelog server: where a run lives, and what a refusal says."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2

from tidelog.cli.trouble import Trouble
from tidelog.client.wire import NO_PROXY
from tidelog.log import RUN_ID

CONNECT_TIMEOUT: Final = 5.0
READ_TIMEOUT: Final = 40.0
"""Seconds without a byte after which a connection is dead: more than two heartbeats."""


def connect(headers: Sequence[str]) -> httpx2.Client:
    """A client that sends these headers (`Name: value`) with every request. Raises `Trouble`."""
    timeout = httpx2.Timeout(READ_TIMEOUT, connect=CONNECT_TIMEOUT)
    return httpx2.Client(headers=dict(map(header, headers)), timeout=timeout, mounts=NO_PROXY)


def run_address(run: str, url: str) -> str:
    """The URL of a run, given by its id or by any URL below it. Raises `Trouble`."""
    if RUN_ID.fullmatch(run):
        return f"{_base(url)}/runs/{run}"
    before, found, rest = run.partition("/runs/")
    identity = rest.partition("?")[0].partition("/")[0]
    if not (found and RUN_ID.fullmatch(identity)):
        raise Trouble(f"{run!r} is neither a run's id nor a URL like {_base(url)}/runs/ID.", 2)
    return f"{_base(before)}/runs/{identity}"


def ask(client: httpx2.Client, address: str, verb: str) -> str:
    """Ask this of the run; the server's word on it. Raises `Trouble`."""
    return str(_json(client, "POST", f"{address}/{verb}")["result"])


def parsed(value: str) -> Any:
    """The JSON value that somebody wrote. Raises `Trouble`."""
    try:
        return json.loads(value)
    except ValueError as error:
        raise Trouble(f"{value!r} is no JSON: {error}.", 2) from None


def answer(client: httpx2.Client, address: str, question: str, value: Any) -> dict[str, Any]:
    """Answer a question of the run; what the server says of it. Raises `Trouble`."""
    found: dict[str, Any] = _json(client, "POST", f"{address}/answer", {"question": question, "value": value})
    return found


def runs(client: httpx2.Client, url: str, limit: int) -> Sequence[dict[str, Any]]:
    """The caller's runs, newest first. Raises `Trouble`."""
    found: list[dict[str, Any]] = _json(client, "GET", f"{_base(url)}/runs?limit={limit}")["runs"]
    return found


@contextlib.contextmanager
def reached(address: str) -> Iterator[None]:
    """Tell in one sentence that nobody answers."""
    try:
        yield
    except (httpx2.TransportError, httpx2.InvalidURL) as error:
        raise Trouble(f"Nobody answers on {_base(address.partition('/runs')[0])} ({_reason(error)}).") from None


def refusal(response: httpx2.Response) -> Trouble:
    """What a refused request says: a problem document's own words where there is one. The body has been read."""
    try:
        problem = response.json()
        words = f"{problem['detail']} ({problem['code']})"
        if problem.get("answer") and problem["answer"]["outcome"] != "withdrawn":
            words += f" It was decided: {json.dumps(problem['answer']['value'], ensure_ascii=False)}"
    except (ValueError, KeyError, TypeError):
        words = f"{response.status_code} {response.reason_phrase}: is this the address of tidelog's router?"
    return Trouble(f"{response.url.copy_with(query=None)}: {words}")


def _json(client: httpx2.Client, method: str, address: str, body: Any = None) -> Any:
    with reached(address):
        response = client.request(method, address, json=body)
    if response.is_error:
        raise refusal(response)
    try:
        return response.json()
    except json.JSONDecodeError:
        raise refusal(response) from None


def _base(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise Trouble(f"{url!r} is no URL: it must begin with http:// or https://.", 2)
    return url.rstrip("/")


def header(text: str) -> tuple[str, str]:
    """Name and value of `Name: value`. Raises `Trouble`."""
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise Trouble(f"{text!r} is no header: write 'Name: value'.", 2)
    return name.strip(), value.strip()


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
