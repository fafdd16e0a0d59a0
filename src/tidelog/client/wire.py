"""A producer's requests, with what their answers mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import httpx2

from tidelog import events as e
from tidelog.client.outbox import Sheaf
from tidelog.errors import Ended, InvalidRequest, TidelogError, Unavailable

CONNECT_TIMEOUT: Final = 5.0
READ_TIMEOUT: Final = 15.0
"""Seconds; the server itself may hold a batch for 5 until there is room."""
LATER: Final = (408, 425, 429, 500, 502, 503, 504)
NO_PROXY: Final[dict[str, httpx2.HTTPTransport | None]] = {
    "all://127.0.0.1": None, "all://localhost": None, "all://[::1]": None,
}  # fmt: skip
"""A proxy of the environment knows nothing of this machine."""


class Later(Exception):
    """The same request may succeed after so many seconds. `busy`: the server is there, and asks for patience."""

    def __init__(self, error: TidelogError, wait: float, *, busy: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.wait = wait
        self.busy = busy


class Answer(NamedTuple):
    """Where the run stands."""

    state: str
    outcome: str | None
    expected: int


class Wire:
    """One producer's connection to the run at `address`."""

    def __init__(
        self, address: str, *, producer: str, epoch: int, headers: Mapping[str, str], thread: str | None
    ) -> None:
        if urlsplit(address).scheme not in ("http", "https"):
            raise InvalidRequest(f"{address!r} is no URL: it must begin with http:// or https://.")
        own = {"Producer-Id": producer, "Producer-Epoch": str(epoch), "Content-Type": "application/x-ndjson"}
        timeout = httpx2.Timeout(READ_TIMEOUT, connect=CONNECT_TIMEOUT)
        self._client = httpx2.Client(headers={**headers, **own}, timeout=timeout, mounts=NO_PROXY)
        self._address = address
        self._thread = thread

    def reserve(self) -> Answer:
        """Reserve the run. Raises `Later`, `TidelogError`."""
        return self._ask("PUT", self._address, headers={"Thread-Id": self._thread} if self._thread else {})

    def post(self, sheaf: Sheaf) -> Answer:
        """Post this. Raises `Later`, `Ended`, `TidelogError`."""
        lines = list(sheaf.events)
        if sheaf.end is not None:
            error = {"error": sheaf.end.error} if sheaf.end.error is not None else {}
            lines.append(e.encode_json({"type": "run.ended", "outcome": sheaf.end.outcome, **error}))
        headers = {"Producer-Seq": str(sheaf.seq)}
        return self._ask("POST", f"{self._address}/events", headers=headers, content=b"\n".join(lines))

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _ask(self, method: str, address: str, **more: Any) -> Answer:
        try:
            response = self._client.request(method, address, **more)
        except httpx2.TransportError as error:
            words = f"{self._address}: nobody answers ({error or type(error).__name__})."
            raise Later(Unavailable(words), 0.0, busy=False) from None
        if response.status_code in LATER:
            raise Later(_refusal(response), _retry_after(response), busy=response.status_code in (429, 503))
        if response.is_error or not response.is_success:
            raise _refusal(response)
        try:
            found = response.json()
            return Answer(found["state"], found["outcome"], found["expected"])
        except (ValueError, KeyError, TypeError):
            raise _refusal(response) from None


def _refusal(response: httpx2.Response) -> TidelogError:
    """What a problem document says, where there is one."""
    try:
        problem = response.json()
        code, words = str(problem["code"]), str(problem["detail"])
        if code == "already_ended":
            return Ended(str(problem["outcome"]))
    except (ValueError, KeyError, TypeError):
        code = "invalid_request"
        words = f"{response.status_code} {response.reason_phrase}: is this the address of tidelog's router?"
    return TidelogError(words, code=code)


def _retry_after(response: httpx2.Response) -> float:
    try:
        seconds = float(response.headers.get("retry-after", "0"))
    except ValueError:
        return 0.0
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0
